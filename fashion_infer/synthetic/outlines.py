"""Drawing a Design in a Pose as a Sketch: outlines and landmarks of every kind of garment, and its wearer."""

from dataclasses import replace

import numpy as np

from fashion_infer.synthetic import details
from fashion_infer.synthetic.designs import ANKLE, CROTCH, HIP, WAIST, Design
from fashion_infer.synthetic.details import EDGE
from fashion_infer.synthetic.people import LEFT_RIGHT, Pose, draw_arm, draw_body, draw_hanger, draw_long_hair
from fashion_infer.synthetic.sketching import (
    Floats,
    Sketch,
    arc,
    curve,
    cut_at,
    mark_pair,
    mirrored,
    width_at,
    xy,
)

NECK_Y, SHOULDER_Y, ARMPIT_Y = -0.035, 0.02, 0.19
NECK_DEPTHS = {
    "crew": 0.06, "scoop": 0.17, "v": 0.2, "square": 0.12, "halter": 0.07, "turtle": 0.02, "shirt": 0.09,
    "peter pan": 0.06, "stand": 0.04, "lapel": 0.36, "hood": 0.09,
}  # fmt: skip
SLEEVE_LENGTHS = {"short": 0.2, "elbow": 0.34, "long": 0.6, "puff": 0.5, "kimono": 0.42}
FOREARM_FROM = 0.3  # distance of the elbow from the shoulder, in body units
SHARP = 0.8  # radians; a sleeve with a larger bend is drawn in two parts


def sketch(design: Design, pose: Pose, companion: Design | None = None, owner: int = 0) -> Sketch:
    """Draw a garment that lies, hangs, or is worn.

    Args:
        design: the garment.
        pose: how it is shown.
        companion: the second garment of the wearer, if any.
        owner: number of the garment, which its shapes get; the companion has the next number.
    """
    drawing = Sketch(owner=owner)
    draw_outfit(drawing, design, pose, companion)
    return drawing


def draw_outfit(drawing: Sketch, design: Design, pose: Pose, companion: Design | None) -> None:
    """Draw a person or a hanger, and the garments from the innermost to the outermost."""
    first = drawing.owner
    if pose.worn:
        draw_body(drawing, pose)
    elif pose.hanging:
        draw_hanger(drawing, design, pose.on_rail)
    pieces = [(first, design)] if companion is None else [(first, design), (first + 1, companion)]
    tucked = pose.tucked and any(tucks(piece) for _, piece in pieces) and len(pieces) == 2
    # Lower-body clothes are drawn first, or last if the top is tucked in.
    for owner, piece in sorted(pieces, key=lambda each: (each[1].clothes_type == 2) == tucked):
        drawing.owner = owner
        inside = tucked and piece.clothes_type == 1
        draw_garment(drawing, replace(piece, hem=min(piece.hem, WAIST + EDGE), flare=0.0) if inside else piece, pose)
    if pose.worn and pose.long_hair:
        draw_long_hair(drawing)


def tucks(design: Design) -> bool:
    """Whether people tuck such a garment in: a top that is neither wide, nor open, nor a jacket."""
    tight, closed = design.ease < 0.06, design.front in ("closed", "placket", "buttons")
    return design.clothes_type == 1 and tight and closed and design.sleeve != "cape" and design.neck != "lapel"


def draw_garment(drawing: Sketch, design: Design, pose: Pose) -> None:
    """Draw one garment."""
    if design.clothes_type == 2:
        draw_lower(drawing, design, pose)
    elif design.sleeve == "cape":
        draw_poncho(drawing, design, pose)
    else:
        draw_upper_or_full(drawing, design, pose)


def side_profile(design: Design) -> Floats:
    """The right side line [K, 2], from the armpit, or the waist of lower-body clothes, to the hem or the legs."""
    ease = design.ease
    chest, waist, hip = 0.165 + ease, 0.14 + 1.3 * ease, 0.175 + ease
    low = max(design.hem, HIP + 0.02)
    if design.legs:
        points = xy((chest, ARMPIT_Y), (waist, WAIST), (hip, HIP))
    elif design.clothes_type == 1:
        points = xy((chest, ARMPIT_Y), (waist + 0.01, WAIST), (hip, HIP), (hip + design.flare, low))
    else:
        skirt_at_hip = waist + (hip + design.flare - waist) * (HIP - WAIST) / (low - WAIST)
        points = xy((chest, ARMPIT_Y), (waist, WAIST), (max(hip, skirt_at_hip), HIP), (hip + design.flare, low))
    line = curve(points if design.clothes_type != 2 else points[1:])
    return cut_at(line, HIP if design.legs else design.hem)


def neckline(design: Design) -> Floats:
    """The neck opening [11, 2] from its left to its right end."""
    width = min(design.neck_width, design.shoulder - 0.02)
    depth = NECK_DEPTHS[design.neck] + (0.12 if design.neck == "v" and design.front in ("buttons", "open") else 0.0)
    t = np.linspace(-1.0, 1.0, 11)
    if design.neck in ("v", "lapel", "shirt"):
        drop = 1.0 - np.abs(t)
    elif design.neck == "square":
        t = np.clip(1.2 * t, -1.0, 1.0)
        drop = np.array([0.0, *[1.0] * 9, 0.0])
    else:
        drop = np.sqrt(1.0 - t**2)
    return np.stack([width * t, NECK_Y + depth * drop], axis=1)


def draw_upper_or_full(drawing: Sketch, design: Design, pose: Pose) -> None:
    """Draw a garment that covers the torso: a top, jacket, dress, coat or jumpsuit."""
    profile, neck = side_profile(design), neckline(design)
    shoulder = np.array([design.shoulder + 0.4 * design.ease, SHOULDER_Y if design.shoulder > 0.1 else NECK_Y])
    sleeves = (0, 1) if design.sleeve != "none" else ()
    details.draw_behind_neck(drawing, design, neck, pose.worn)
    for side in (side for side in sleeves if pose.behind[side]):
        draw_sleeve(drawing, design, pose, side, shoulder, profile[0])
    if design.legs:
        draw_legs(drawing, design, pose)
    draw_torso(drawing, design, neck, shoulder, profile)
    for side in (side for side in (0, 1) if not pose.behind[side]):
        if pose.worn and design.sleeve != "kimono":  # a kimono's sleeves hide the hands
            draw_arm(drawing, pose, side, from_sleeve=side in sleeves)
        if side in sleeves:
            draw_sleeve(drawing, design, pose, side, shoulder, profile[0])
    details.draw_collar(drawing, design, neck)
    if design.clothes_type == 3 or design.waist_trim != "none":
        details.draw_waist(drawing, design, profile)


def draw_torso(drawing: Sketch, design: Design, neck: Floats, shoulder: Floats, profile: Floats) -> None:
    """Draw the body of the garment with its front, pockets and hem."""
    inset = (0.93, 1.0) if design.sleeve == "none" else (1.0, 1.0)
    armhole = curve(np.stack([shoulder, (shoulder + profile[0]) / 2 * inset, profile[0]]))
    hem = arc(profile[-1], 0.0 if design.legs else 0.02)
    drawing.fill(mirrored(np.concatenate([neck[5:], armhole, profile[1:-1], hem[:5]])), covers=True)
    mark_pair(drawing, 0, neck[-1])
    if design.sleeve == "none":
        mark_pair(drawing, 2, shoulder)
    if design.clothes_type == 3:
        mark_pair(drawing, 4, np.array([width_at(profile, WAIST), WAIST]))
    details.draw_pockets(drawing, design, profile)
    details.draw_style(drawing, design, profile)
    details.draw_front(drawing, design, float(neck[:, 1].max()), profile)
    if not design.legs:
        mark_pair(drawing, 6, profile[-1])
        details.draw_hem(drawing, hem[::-1], design.hem_trim)


def draw_sleeve(drawing: Sketch, design: Design, pose: Pose, side: int, shoulder: Floats, armpit: Floats) -> None:
    """Draw one sleeve (0 left, 1 right) and its cuff."""
    length = SLEEVE_LENGTHS[design.sleeve]
    angle = pose.arms[side] + (0.55 if design.sleeve == "kimono" else 0.0)
    middle, half = sleeve_axis(design, angle, pose.bends[side], length, (shoulder + armpit) / 2)
    tangent = np.gradient(middle, axis=0)
    normal = np.stack([tangent[:, 1], -tangent[:, 0]], axis=1) / np.hypot(*tangent.T)[:, None]
    outer, inner = middle + normal * half[:, None], middle - normal * half[:, None]
    flip = np.array([LEFT_RIGHT[side], 1.0])
    outline = np.concatenate([shoulder[None], outer[1:], inner[:2:-1], armpit[None]])
    if abs(pose.bends[side]) > SHARP and length > FOREARM_FROM:  # one outline would cross itself at the elbow
        elbow = round(FOREARM_FROM / length * (len(middle) - 1))
        outline = np.concatenate([shoulder[None], outer[1 : elbow + 1], inner[elbow:2:-1], armpit[None]])
        forearm = np.concatenate([outer[elbow:], inner[: elbow - 1 : -1]])
        drawing.fill(forearm * flip, grain=(pose.bends[side] - angle) * LEFT_RIGHT[side], covers=True)
    drawing.fill(outline * flip, grain=-angle * LEFT_RIGHT[side], covers=True)
    drawing.mark(2 + side, middle[-1] * flip)
    direction = (middle[-1] - middle[-2]) / np.hypot(*(middle[-1] - middle[-2]))
    edge = np.stack([outer[-1], inner[-1]]) * flip
    details.draw_edge(drawing, edge, -direction * flip * EDGE, design.cuff_trim)
    if design.style == "sporty":
        drawing.line(middle[1:-1] * flip, "white", 0.014)


def sleeve_axis(design: Design, angle: float, bend: float, length: float, start: Floats) -> tuple[Floats, Floats]:
    """The middle line of a right sleeve [9, 2], and half of the sleeve's width at each of its points [9]."""
    at = np.linspace(0.0, length, 9)
    upper = np.array([np.sin(angle), np.cos(angle)])
    lower = np.array([np.sin(angle - bend), np.cos(angle - bend)])
    middle = start + np.minimum(at, FOREARM_FROM)[:, None] * upper + np.maximum(at - FOREARM_FROM, 0.0)[:, None] * lower
    ease = design.ease
    widths = {
        "short": (0.085, 0.075 + ease * 0.7, 0.075 + ease * 0.8), "elbow": (0.085, 0.07 + ease, 0.062 + ease * 0.6),
        "long": (0.085, 0.058 + ease * 0.6, 0.042 + ease * 0.4), "puff": (0.085, 0.125 + ease * 0.4, 0.04),
        "kimono": (0.09, 0.15, 0.19),
    }[design.sleeve]  # fmt: skip
    return middle, np.interp(at / length, (0.0, 0.5, 1.0), widths)


def draw_legs(drawing: Sketch, design: Design, pose: Pose) -> None:
    """Draw both legs from the waist down; the landmark is the middle of each opening."""
    at = np.linspace(CROTCH, design.hem, 8)
    down, share = (at - CROTCH) / (design.hem - CROTCH), (at - CROTCH) / (ANKLE - CROTCH)
    hip, flare = 0.175 + design.ease, design.flare * min(1.0, (design.hem - CROTCH) / 0.35)
    width = (hip / 2 - 0.004) * (1 - share) + (0.068 + 0.4 * design.ease) * share + flare * down
    waist = 0.14 + 1.3 * design.ease
    for side, swing in enumerate(pose.legs):
        flip = np.array([LEFT_RIGHT[side], 1.0])
        middle = hip / 2 + (0.03 + swing) * share + 0.6 * max(flare, 0.0) * down
        inside = middle - width if swing < 0 else np.maximum(middle - width, 0.004)
        outer, inner = np.stack([middle + width, at], axis=1), np.stack([inside, at], axis=1)
        top = curve(xy((waist, WAIST), (hip, HIP), (hip, CROTCH)))
        outline = np.concatenate([xy((0.0, WAIST)), top[:-1], outer, inner[::-1], xy((0.0, CROTCH - 0.01))]) * flip
        drawing.fill(outline, grain=-0.04 * flip[0], covers=True)
        drawing.mark(6 + side, np.array([middle[-1], design.hem]) * flip)
        edge = np.stack([inner[-1], outer[-1]]) * flip
        details.draw_edge(drawing, edge, np.array([0.0, -EDGE]), design.hem_trim)
        if design.hem_trim == "slit":
            drawing.fill(outer[-1] * flip + xy((0.0, 0.0), (0.0, -0.12), (-0.04 * flip[0], 0.0)), "lining")


def draw_lower(drawing: Sketch, design: Design, pose: Pose) -> None:
    """Draw trousers, shorts or a skirt."""
    profile = side_profile(design)
    if design.legs:
        draw_legs(drawing, design, pose)
        drawing.line(xy((0.0, WAIST + 0.02), (0.004, CROTCH)), width=0.01)
        drawing.line(xy((0.035, WAIST + 0.05), (0.03, CROTCH - 0.12), (0.0, CROTCH - 0.07)), "stitch", 0.006)
    else:
        hem = arc(profile[-1], 0.025)
        drawing.fill(mirrored(np.concatenate([xy((0.0, WAIST)), profile[:-1], hem[:5]])), covers=True)
        mark_pair(drawing, 6, profile[-1])
        details.draw_hem(drawing, hem[::-1], design.hem_trim)
    mark_pair(drawing, 4, np.array([width_at(profile, WAIST), WAIST]))
    details.draw_pockets(drawing, design, profile)
    details.draw_style(drawing, design, profile)
    details.draw_waist(drawing, design, profile)


def draw_poncho(drawing: Sketch, design: Design, pose: Pose) -> None:
    """Draw a cape without sleeves; its outermost corners get the landmarks of the sleeves."""
    neck, hem = neckline(design), design.hem
    details.draw_behind_neck(drawing, design, neck, pose.worn)
    if pose.worn:
        for arm in (0, 1):
            draw_arm(drawing, pose, arm)
    side = curve(xy((0.2, 0.03), (0.36, 0.24), (0.45, 0.46)))
    lower = curve(xy((0.45, 0.46), (0.28, hem - 0.06), (0.0, hem)))
    drawing.fill(mirrored(np.concatenate([neck[5:], side, lower])), covers=True)
    mark_pair(drawing, 0, neck[-1])
    mark_pair(drawing, 2, side[-1])
    mark_pair(drawing, 6, xy((0.28, hem - 0.06))[0])
    details.draw_hem(drawing, np.concatenate([lower[3:] * (-1.0, 1.0), lower[3:][::-1]]), design.hem_trim)
    details.draw_pockets(drawing, design, side)
    details.draw_style(drawing, design, side)
    details.draw_collar(drawing, design, neck)
