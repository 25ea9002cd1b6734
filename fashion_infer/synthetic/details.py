"""The details that are drawn onto a garment: collars, fronts, waists, cuffs, hems, pockets and marks of style."""

import numpy as np

from fashion_infer.synthetic.designs import HIP, WAIST, Design
from fashion_infer.synthetic.sketching import MIRROR, Floats, Sketch, arc, band, curve, width_at, xy

RIGHT_LEFT = (1.0, -1.0)
EDGE = 0.05  # height of a cuff, a waistband or a trimmed hem, in body units


def along(line: Floats, count: int) -> Floats:
    """`count` points at equal distances along a line, [count, 2]."""
    steps = np.hypot(*np.diff(line, axis=0).T)
    at = np.concatenate([[0.0], np.cumsum(steps)])
    where = np.linspace(0.0, at[-1], count)
    return np.stack([np.interp(where, at, line[:, 0]), np.interp(where, at, line[:, 1])], axis=1)


def draw_edge(drawing: Sketch, edge: Floats, across: Floats, kind: str) -> None:
    """Draw the trim at the edge of a sleeve, a leg or a hem.

    Args:
        drawing: the drawing.
        edge: [K, 2] points of the edge.
        across: [2] vector of length EDGE from the edge into the cloth.
        kind: a cuff trim or hem trim, see `Design`.
    """
    strip = np.concatenate([edge, (edge + across)[::-1]])
    count = max(4, int(np.hypot(*(edge[-1] - edge[0])) / 0.028))
    if kind == "contrast":
        drawing.fill(strip, "trim")
    elif kind == "ribbed":
        drawing.fill(strip, "shade")
        for point in along(edge, count):
            drawing.line(np.stack([point, point + across]), width=0.005)
    elif kind == "striped":
        for part in (0.0, 0.5, 1.0):
            drawing.line(edge + across * (0.15 + part), "trim", 0.014)
    elif kind == "lace":
        drawing.fill(strip, "white")
        drawing.dots(along(edge, count), 0.02, "white")
        drawing.dots(along(edge + across * 0.45, count), 0.008, "shade")
    elif kind == "fringe":
        for point in along(edge, count * 2):
            drawing.line(np.stack([point + across * 0.2, point - across * 0.9]), "trim", 0.01)
    elif kind == "ruffle":
        drawing.fill(np.concatenate([edge + across, (wavy(edge, count) - across * 0.3)[::-1]]), "second")
        drawing.line(edge + across)
    else:
        drawing.line(edge + across * 0.35, "stitch", 0.004)


def wavy(edge: Floats, count: int) -> Floats:
    """Turn an edge into a wavy line of `count` waves."""
    points = along(edge, 2 * count + 1)
    direction = (edge[-1] - edge[0]) / max(1e-6, float(np.hypot(*(edge[-1] - edge[0]))))
    normal = np.array([-direction[1], direction[0]])
    return points + normal * 0.014 * (np.arange(len(points)) % 2 * 2 - 1)[:, None]


def draw_hem(drawing: Sketch, edge: Floats, kind: str) -> None:
    """Draw the lower edge of a garment, from its left to its right corner; a slit is at both corners."""
    if kind != "slit":
        draw_edge(drawing, edge, np.array([0.0, -EDGE]), kind)
        return
    for corner in (edge[0], edge[-1]):
        inwards = -float(np.sign(corner[0])) * 0.045
        drawing.fill(corner + xy((0.0, 0.005), (0.0, -0.17), (inwards, 0.008)), "lining")


def draw_behind_neck(drawing: Sketch, design: Design, neck: Floats, worn: bool) -> None:
    """Draw what can be seen behind the neck opening: a hood, the collar's roll, or the inside of the back."""
    width = neck[-1, 0]
    if design.neck == "hood":
        outer = xy((0.0, -0.3), (0.11, -0.27), (0.165, -0.16), (0.15, -0.05), (width + 0.04, 0.02))
        inner = xy((0.0, -0.235), (0.075, -0.21), (0.11, -0.13), (0.1, -0.05), (width, 0.03))
        for half, paint in ((outer, "cloth"), (inner, "lining")):
            right = curve(half)
            drawing.fill(np.concatenate([right, (right * MIRROR)[::-1]]), paint)
    elif not worn or design.front in ("buttons", "double", "zip"):
        back = arc(neck[-1], 0.02) - (0.0, 0.005)
        drawing.fill(np.concatenate([neck, back[1:-1]]), "lining")
    if design.neck in ("shirt", "lapel"):
        roll = arc(neck[-1], -0.045)
        drawing.fill(np.concatenate([roll, (roll + xy((0.0, 0.03)))[::-1]]), "cloth")


def draw_collar(drawing: Sketch, design: Design, neck: Floats) -> None:
    """Draw the collar over the front, or the trim along the edge of the neck opening."""
    width, bottom = neck[-1, 0], float(neck[:, 1].max())
    leaves = {
        "shirt": xy((width, -0.045), (width + 0.03, 0.005), (0.075, 0.1), (0.0, bottom - 0.02)),
        "lapel": xy(
            (width, -0.045), (width + 0.05, 0.06), (0.115, 0.1), (0.15, 0.14),
            (0.005, bottom + 0.02), (0.012, bottom - 0.02),
        ),
        "peter pan": curve(xy((width, -0.04), (width + 0.055, 0.03), (0.1, 0.1), (0.035, 0.1), (0.0, bottom - 0.005))),
    }  # fmt: skip
    if design.neck in leaves:
        leaf = leaves[design.neck]
        if design.neck == "peter pan":
            leaf = np.concatenate([leaf, neck[5:]])
        for side in RIGHT_LEFT:
            drawing.fill(leaf * (side, 1.0), "white" if design.neck == "peter pan" else "cloth", grain=0.6 * side)
            drawing.line(leaf * (side, 1.0), width=0.01)
    elif design.neck == "stand":
        drawing.fill(np.concatenate([neck + xy((0.0, 0.012)), (neck * (0.94, 1.0) - (0.0, 0.05))[::-1]]), "shade")
    elif design.neck == "turtle":
        draw_turtleneck(drawing, width)
    elif design.neck == "hood":
        for side in RIGHT_LEFT:
            drawing.line(xy((0.04 * side, 0.04), (0.045 * side, 0.22)), "white", 0.011)
    else:
        draw_neck_trim(drawing, neck, design.collar_trim)


def draw_turtleneck(drawing: Sketch, width: float) -> None:
    """Draw a turtleneck: a ribbed tube, folded over."""
    tube = xy((-width, -0.03), (-0.95 * width, -0.15), (0.95 * width, -0.15), (width, -0.03), (0.0, -0.005))
    drawing.fill(tube)
    for x in np.linspace(-0.85, 0.85, 7) * width:
        drawing.line(xy((x, -0.145), (x, -0.02)), width=0.005)


def draw_neck_trim(drawing: Sketch, neck: Floats, kind: str) -> None:
    """Draw the trim along the edge of the neck opening."""
    if kind == "contrast":
        drawing.line(neck, "trim", 0.03)
    elif kind == "beaded":
        drawing.dots(along(neck + xy((0.0, 0.02)), 13), 0.012, "white")
    elif kind == "ruffle":
        drawing.dots(along(neck, 9), 0.026, "second")
    else:
        drawing.line(neck + xy((0.0, 0.018)), width=0.005)


def draw_front(drawing: Sketch, design: Design, top: float, profile: Floats) -> None:
    """Draw how the garment closes, from the neck's lowest point downwards."""
    hem = float(profile[-1, 1])
    if design.front in ("buttons", "double"):
        columns = (0.012,) if design.front == "buttons" else (-0.05, 0.06)
        seam = columns[0] - 0.03
        drawing.line(xy((seam, top), (seam, hem)))
        rows = np.arange(top + 0.04, hem - 0.04, 0.085 if design.front == "buttons" else 0.16)
        drawing.dots((np.array([x, y]) for x in columns for y in rows), 0.013, "button")
    elif design.front == "zip":
        drawing.line(xy((0.0, top - 0.01), (0.0, hem)), "dark", 0.022)
        drawing.line(xy((0.0, top - 0.01), (0.0, hem)), "metal", 0.01)
        drawing.dots([np.array([0.0, top + 0.03])], 0.016, "metal")
    elif design.front == "open":
        gap = 0.05 + 0.4 * design.ease
        drawing.fill(xy((-0.005, top - 0.02), (0.005, top - 0.02), (gap, hem + 0.03), (-gap, hem + 0.03)), "lining")
        for side in RIGHT_LEFT:
            drawing.line(xy((0.008 * side, top - 0.02), (gap * side, hem + 0.02)), "shade", 0.035)
    elif design.front == "wrap":
        drawing.line(xy((0.0, top), (-0.06, WAIST), (-0.1, hem)), width=0.01)
    elif design.front == "placket":
        drawing.fill(xy((-0.022, top), (0.022, top), (0.022, top + 0.17), (-0.022, top + 0.17)), "shade")
        drawing.dots((np.array([0.0, top + 0.03 + 0.05 * i]) for i in range(3)), 0.011, "button")


def draw_waist(drawing: Sketch, design: Design, profile: Floats) -> None:
    """Draw a belt, a drawstring or a bow at the waist, or the plain waistband of lower-body clothes."""
    low = design.clothes_type == 2
    top, bottom = (WAIST, WAIST + EDGE) if low else (WAIST - 0.022, WAIST + 0.022)
    if design.waist_trim == "none" and not low:
        return
    paint = {"belted": "trim", "bow": "trim"}.get(design.waist_trim, "shade")
    strip = band(profile, top, bottom)
    drawing.fill(strip, paint)
    middle = (top + bottom) / 2
    if design.waist_trim == "belted":
        drawing.line(xy((-0.03, top), (0.03, top), (0.03, bottom), (-0.03, bottom), (-0.03, top)), "metal", 0.012)
    elif design.waist_trim == "drawstring":
        for x in np.linspace(-0.95, 0.95, 15) * width_at(profile, middle):
            drawing.line(xy((x, top), (x, bottom)), width=0.005)
        for side in RIGHT_LEFT:
            drawing.line(xy((0.012 * side, middle), (0.03 * side, middle + 0.13)), "white", 0.011)
    elif design.waist_trim == "bow":
        draw_bow(drawing, np.array([-0.8 * width_at(profile, middle), middle]))


def draw_bow(drawing: Sketch, knot: Floats) -> None:
    """Draw a bow: two loops and two ends."""
    for side in RIGHT_LEFT:
        drawing.line(knot + xy((0.0, 0.0), (0.035 * side, 0.14)), "trim", 0.018)
        drawing.fill(knot + xy((0.0, 0.0), (0.07 * side, -0.04), (0.075 * side, 0.03)), "trim")


def draw_pockets(drawing: Sketch, design: Design, profile: Floats) -> None:
    """Draw the pockets of the design; utility style adds flap pockets."""
    side = width_at(profile, WAIST) * 0.55
    low = max(WAIST + 0.06, min(HIP, design.hem - 0.16))
    kinds = {design.pocket, "flap" if design.style == "utility" and not design.legs else "none"}
    if "kangaroo" in kinds:
        pouch = xy(
            (0.08, low - 0.06),
            (0.14, low + 0.03),
            (0.14, low + 0.09),
            (-0.14, low + 0.09),
            (-0.14, low + 0.03),
            (-0.08, low - 0.06),
        )
        drawing.fill(pouch)
    if "chest" in kinds:
        drawing.fill(np.array([0.095, 0.2]) + BOX * (0.045, 0.05))
    for x in (side, -side):
        if "patch" in kinds:
            drawing.fill(np.array([x, low]) + BOX * (0.055, 0.065))
        if "flap" in kinds:
            drawing.fill(np.array([x, low]) + BOX * (0.06, 0.02), "shade")
        if "slant" in kinds:
            top = WAIST + 0.055 if design.clothes_type == 2 else low - 0.08
            drawing.line(xy((x, top), (x * 1.45, top + 0.1)), width=0.012)


BOX: Floats = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])


def draw_style(drawing: Sketch, design: Design, profile: Floats) -> None:
    """Draw the marks of the style on the body of the garment."""
    lower = design.clothes_type == 2
    if design.style == "sporty":
        inner = profile[profile[:, 1] < (WAIST + 0.1 if design.legs and not lower else 9.0)]
        for side in RIGHT_LEFT:
            for inset in (0.012, 0.034):
                drawing.line((inner - (inset, 0.0)) * (side, 1.0), "white", 0.012)
    elif design.style == "embroidered":
        centre = np.array([0.0, WAIST + 0.2 if lower and not design.legs else 0.6 if lower else 0.29])
        for x in (-0.08, 0.0, 0.08):
            flower = centre + xy((x, 0.0))
            drawing.dots(flower + 0.022 * xy((1, 0), (-1, 0), (0, 1), (0, -1)), 0.015, "second")
            drawing.dots(flower, 0.012, "trim")
    elif design.style == "preppy":
        crest = xy((-0.03, -0.035), (0.03, -0.035), (0.03, 0.01), (0.0, 0.04), (-0.03, 0.01))
        at = (0.1, HIP) if lower else (0.09, 0.26)
        drawing.fill(at + crest, "trim")
        drawing.line(at + xy((-0.02, 0.0), (0.02, -0.02)), "white", 0.01)
    elif design.style == "distressed":
        for x, y in ((-0.1, 0.82), (0.09, 0.8), (0.11, 1.1)) if lower else ((-0.08, 0.36), (0.07, 0.47)):
            if x < 0.1 or y < design.hem - 0.06:  # short trousers have no room for the third tear
                drawing.fill(
                    np.array([x, min(y, design.hem - 0.08)])
                    + xy((-0.05, 0.0), (0.0, -0.018), (0.045, 0.004), (0.0, 0.02)),
                    "white",
                )
    elif design.style == "utility" and design.legs:
        for side in RIGHT_LEFT:
            drawing.fill(np.array([0.13 * side, min(0.95, design.hem - 0.1)]) + BOX * (0.045, 0.055), "shade")
