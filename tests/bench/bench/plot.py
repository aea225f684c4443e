"""Line charts as SVG, for light and dark pages: no background, greys and colours that suit both."""

import math
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 72, 100, 48, 56
# The same contestant has the same colour everywhere.
COLOURS = {
    "sluice": "#3b82f6",
    "libuv": "#e8710a",
    "raw epoll": "#9a8f1f",
    "nginx": "#2fa84f",
    "nginx 64k": "#1f8a8a",
    "haproxy": "#c2459b",
    "haproxy 64k": "#8b5cf6",
    # Both are ours.
    "plain": "#3b82f6",
    "compressed": "#1f8a8a",
}
GREY = "#808080"


class Line(NamedTuple):
    name: str
    points: list  # of (x, y, lowest y, highest y)


class Axis(NamedTuple):
    title: str
    text: callable  # of a number, for its ticks
    logarithmic: bool = True
    ticks: tuple = ()  # those that suit the values, unless they are given


class Scale:
    """From values to pixels."""

    def __init__(self, axis, values, low_pixel, high_pixel):
        self.axis = axis
        self.low_pixel, self.high_pixel = low_pixel, high_pixel
        choose = log_ticks if axis.logarithmic else linear_ticks
        self.ticks = axis.ticks or choose(values)
        self.low, self.high = self.position(self.ticks[0]), self.position(self.ticks[-1])

    def position(self, value):
        return math.log10(value) if self.axis.logarithmic else value

    def pixel(self, value):
        share = (self.position(value) - self.low) / (self.high - self.low)
        return self.low_pixel + share * (self.high_pixel - self.low_pixel)


def log_ticks(values):
    """1, 2 and 5 of each decade if there are few of them, else 1 alone; around all values."""
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    steps = (1, 2, 5) if last - first <= 2 else (1,)
    ticks = [step * 10.0**exponent for exponent in range(first, last + 1) for step in steps]
    low = max(tick for tick in ticks if tick <= min(values) * 1.0001)
    high = min([tick for tick in ticks if tick >= max(values) * 0.9999] or [10.0 ** (last + 1)])
    return [tick for tick in ticks if low <= tick <= high] if low < high else [low, low * 10]


def linear_ticks(values):
    """From nought, in four to eight steps."""
    top = max(values) or 1
    step = 10.0 ** math.floor(math.log10(top))
    while top / step < 4:
        step /= 2
    return [step * number for number in range(math.ceil(top / step) + 1)]


def text(x, y, content, anchor="middle", size=12, colour=GREY, more=""):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
        f' fill="{colour}"{more}>{escape(content)}</text>'
    )


def grid(x_scale, y_scale):
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for tick in y_scale.ticks:
        y = y_scale.pixel(tick)
        parts.append(
            f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{GREY}" stroke-opacity=".25" fill="none"/>'
        )
        parts.append(text(LEFT - 8, y + 4, y_scale.axis.text(tick), "end"))
    for tick in x_scale.ticks:
        x = x_scale.pixel(tick)
        parts.append(
            f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="{GREY}" stroke-opacity=".12" fill="none"/>'
        )
        parts.append(text(x, bottom + 18, x_scale.axis.text(tick)))
    parts.append(text((LEFT + right) / 2, HEIGHT - 14, x_scale.axis.title))
    middle = (TOP + bottom) / 2
    turned = f' transform="rotate(-90 16 {middle:.1f})"'
    parts.append(text(16, middle, y_scale.axis.title, more=turned))
    return parts


def curve(line, colour, x_scale, y_scale):
    """The medians joined, and a stroke from the lowest to the highest of each."""
    path = "L".join(f"{x_scale.pixel(x):.1f} {y_scale.pixel(y):.1f}" for x, y, *_ in line.points)
    parts = [f'<path d="M{path}" stroke="{colour}" stroke-width="2" fill="none"/>']
    for x, y, low, high in line.points:
        column = f"{x_scale.pixel(x):.1f}"
        parts.append(
            f'<path d="M{column} {y_scale.pixel(low):.1f}V{y_scale.pixel(high):.1f}"'
            f' stroke="{colour}" stroke-opacity=".5" fill="none"/>'
            f'<circle cx="{column}" cy="{y_scale.pixel(y):.1f}" r="3" fill="{colour}"/>'
        )
    return parts


def label_heights(wanted, distance=15):
    """Moved down where they would cover each other."""
    heights = {}
    last = -math.inf
    for index in sorted(range(len(wanted)), key=wanted.__getitem__):
        last = max(wanted[index], last + distance)
        heights[index] = last
    return heights


def draw(title, x_axis, y_axis, lines):
    """The SVG of a chart; each line's name stands at its end."""
    points = [point for line in lines for point in line.points]
    x_scale = Scale(x_axis, [point[0] for point in points], LEFT, WIDTH - RIGHT)
    y_values = [value for point in points for value in point[1:]]
    y_scale = Scale(y_axis, y_values, HEIGHT - BOTTOM, TOP)
    heading = text(LEFT, 24, title, "start", 15, more=' font-weight="bold"')
    parts = [heading, *grid(x_scale, y_scale)]
    heights = label_heights([y_scale.pixel(line.points[-1][1]) for line in lines])
    for index, line in enumerate(lines):
        colour = COLOURS.get(line.name, GREY)
        parts += curve(line, colour, x_scale, y_scale)
        end = x_scale.pixel(line.points[-1][0]) + 10
        parts.append(text(end, heights[index] + 4, line.name, "start", 13, colour))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' font-family="system-ui, sans-serif" role="img" aria-label="{escape(title)}">\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )
