"""What script/bench measures with: servers, the load generator, the parts and their report."""


class Failure(Exception):
    """Something did not run, or a figure makes no sense."""


class Skip(Exception):
    """This machine has not what it takes."""
