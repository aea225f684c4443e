# The gateway's image: built on Debian 12, run on Debian 12's slim image by a user without a name.
#
#   docker build -t sluice --build-arg REVISION="$(git rev-parse HEAD)" .
#   docker run --rm --stop-timeout 40 -p 9998:9998 -p 127.0.0.1:9464:9464 --read-only --cap-drop ALL sluice
#
# The timeout is longer than shutdown.drain_timeout (30 s), so that sockets are closed and not cut.
#
# Your own routes, pages and plugins are mounted over what is baked in:
#   /etc/sluice/routes.yaml, /etc/sluice/www/, /usr/lib/sluice/*.so
ARG BASE=debian:12
ARG RUNTIME_BASE=debian:12-slim

FROM ${BASE} AS build
WORKDIR /src
# First the packages alone, so that a change of the sources does not install them again.
COPY script/bootstrap script/bootstrap
RUN script/bootstrap
COPY . .
# Behind the packages, since it changes with every revision. There is no .git here to ask.
ARG REVISION=unknown
RUN SLUICE_REVISION=$REVISION script/build release sluice plugins/all
RUN strip build/release/sluice build/release/plugins/*.so

FROM ${RUNTIME_BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="Sluice" \
      org.opencontainers.image.description="A WebSocket gateway that shows where every byte is waiting" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.vendor="The Sluice authors" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="docker.io/library/debian:12-slim"

# Shared, not static: a security update of OpenSSL is then an update of the base. The certificates
# are what `tls: {}` of an upstream verifies with.
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends \
        ca-certificates libfmt9 libisal2 libprometheus-cpp-core1.0 libsimdjson14 libspdlog1.10 libssl3 libuv1 \
        libyaml-cpp0.7 zlib1g > /dev/null \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log

COPY --from=build /src/build/release/sluice /usr/bin/sluice
COPY --from=build /src/build/release/plugins/*.so /usr/lib/sluice/
COPY config/routes.yaml /etc/sluice/routes.yaml
COPY config/www /etc/sluice/www
COPY LICENSE /usr/share/doc/sluice/copyright
# Fails here, not at somebody's start, if a shared library is missing or the file is not valid.
RUN ["/usr/bin/sluice", "check", "/etc/sluice/routes.yaml"]

# Inside a container the metrics have to be reachable from outside of it.
ENV SLUICE_METRICS_ADDRESS=0.0.0.0:9464
USER 65532:65532
EXPOSE 9998 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
  CMD ["/usr/bin/sluice", "healthcheck", "--config", "/etc/sluice/routes.yaml"]
ENTRYPOINT ["/usr/bin/sluice"]
CMD ["run", "--config", "/etc/sluice/routes.yaml"]
