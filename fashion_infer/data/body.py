"""Whoever wears a garment, and the hanger it hangs from: what a drawing shows besides clothes."""

from dataclasses import dataclass

import numpy as np

from fashion_infer.data.designs import ANKLE, CROTCH, HIP, WAIST, Design
from fashion_infer.data.sketching import CIRCLE, Floats, Sketch, curve, mirrored, xy

LEFT_RIGHT = (-1.0, 1.0)
UPPER_ARM, ARM, HAND = 0.3, 0.61, 0.68  # to the elbow, to the wrist, to the fist's middle, body units
SHOULDER = xy((0.19, 0.08))[0]
ROUND: Floats = np.stack([np.cos(np.arange(20) * np.pi / 10), np.sin(np.arange(20) * np.pi / 10)], axis=1)


@dataclass(frozen=True)
class Pose:
    """How the garment lies, hangs or is worn in one view; angles in radians from hanging straight down, outwards."""

    arms: tuple[float, float] = (0.35, 0.35)
    bends: tuple[float, float] = (0.0, 0.0)  # the forearm's further turn, inwards
    behind: tuple[bool, bool] = (False, False)  # the sleeve lies behind the body
    legs: tuple[float, float] = (0.02, 0.02)  # how far each ankle is outwards, body units; crossed when negative
    worn: bool = False
    hung: bool = False  # on a hanger
    pocketed: bool = False  # the hands are in pockets
    long_hair: bool = False
    tucked: bool = True  # the upper garment of an outfit is under the lower one


def arm(pose: Pose, side: int, start: float, end: float) -> Floats:
    """[K, 2]: the middle line of an arm between two distances from the right shoulder, not mirrored yet."""
    angle, bend = pose.arms[side], pose.bends[side]
    at = np.linspace(start, end, 9)
    upper = np.array([np.sin(angle), np.cos(angle)])
    lower = np.array([np.sin(angle - bend), np.cos(angle - bend)])
    return SHOULDER + np.minimum(at, UPPER_ARM)[:, None] * upper + np.maximum(at - UPPER_ARM, 0.0)[:, None] * lower


def limb(middle: Floats, widths: tuple[float, ...]) -> Floats:
    """The outline of an arm or a leg around its middle line, its half widths spread along it."""
    tangent = np.gradient(middle, axis=0)
    normal = np.stack([tangent[:, 1], -tangent[:, 0]], axis=1) / np.hypot(*tangent.T)[:, None]
    half = np.interp(np.linspace(0, 1, len(middle)), np.linspace(0, 1, len(widths)), widths)[:, None]
    return np.concatenate([middle + normal * half, (middle - normal * half)[::-1]])


def draw_person(drawing: Sketch, pose: Pose) -> None:
    """The skin and hair under the clothes, and shoes."""
    trunk = mirrored(
        xy(
            (0.0, -0.18),
            (0.052, -0.18),
            (0.06, -0.04),
            (0.18, 0.02),
            (0.15, 0.2),
            (0.125, WAIST),
            (0.165, HIP),
            (0.16, CROTCH),
        )
    )
    drawing.fill(trunk, "skin", body=True)
    if pose.long_hair:
        drawing.fill(np.array([0.0, -0.16]) + ROUND * (0.125, 0.2), "hair", body=True)
    for side in (0, 1):
        flip = np.array([LEFT_RIGHT[side], 1.0])
        drawing.fill(limb(arm(pose, side, 0.0, ARM), (0.046, 0.04, 0.036, 0.028)) * flip, "skin", body=True)
        draw_hand(drawing, pose, side)
        foot = np.array([0.11 + pose.legs[side], ANKLE + 0.04])
        leg = curve(np.stack([xy((0.085, HIP))[0], (foot + (0.08, HIP)) / 2, foot]))
        drawing.fill(limb(leg, (0.085, 0.075, 0.055, 0.058, 0.035)) * flip, "skin", body=True)
        shoe = foot + xy((-0.045, 0.0), (0.04, 0.0), (0.075, 0.07), (0.06, 0.1), (-0.03, 0.1), (-0.055, 0.06))
        drawing.fill(shoe * flip, "shoe", body=True)
    draw_head(drawing, pose)


def draw_head(drawing: Sketch, pose: Pose) -> None:
    """Face, hair, eyes and mouth; hair may be short or long."""
    head = np.array([0.0, -0.235])
    drawing.fill(xy((-0.05, -0.2), (0.05, -0.2), (0.062, -0.02), (0.0, 0.03), (-0.062, -0.02)), "skin", body=True)
    drawing.line(xy((-0.045, -0.13), (0.0, -0.115), (0.045, -0.13)), "skin shade", 0.012, body=True)
    drawing.fill(head + ROUND * (0.082, 0.112), "skin", body=True)
    drawing.fill(
        curve(
            xy(
                (-0.09, -0.22),
                (-0.095, -0.31),
                (0.0, -0.375),
                (0.095, -0.31),
                (0.09, -0.22),
                (0.065, -0.29),
                (-0.05, -0.3),
            )
        ),
        "hair",
        body=True,
    )
    for x in (-0.032, 0.032):
        drawing.fill(head + (x, 0.0) + CIRCLE * (0.011, 0.007), "dark", body=True)
        drawing.line(head + xy((x - 0.016, -0.024), (x + 0.016, -0.024)), "hair", 0.007, body=True)
    drawing.line(head + xy((0.004, 0.0), (0.01, 0.03), (-0.004, 0.032)), "skin shade", 0.007, body=True)
    drawing.line(head + xy((-0.022, 0.06), (0.0, 0.065), (0.022, 0.06)), "lips", 0.011, body=True)


def draw_hand(drawing: Sketch, pose: Pose, side: int, covers: bool = False) -> None:
    """A fist with a thumb at the end of an arm."""
    flip = np.array([LEFT_RIGHT[side], 1.0])
    drawing.fill(
        limb(arm(pose, side, ARM - 0.03, HAND + 0.03), (0.026, 0.038, 0.042, 0.02)) * flip,
        "skin",
        covers=covers,
        body=True,
    )


def draw_arms_over(drawing: Sketch, pose: Pose, covered_to: float) -> None:
    """The bare parts of arms that lie in front of the clothes; sleeves cover an arm up to `covered_to`."""
    for side in (0, 1):
        if pose.behind[side] or pose.pocketed:
            continue
        if covered_to < ARM - 0.1:
            bare = arm(pose, side, max(covered_to - 0.02, UPPER_ARM - 0.06), ARM)
            flip = np.array([LEFT_RIGHT[side], 1.0])
            drawing.fill(limb(bare, (0.038, 0.036, 0.028)) * flip, "skin", covers=True, body=True)
        draw_hand(drawing, pose, side, covers=True)


def draw_hair_over(drawing: Sketch) -> None:
    """Long hair in front of the shoulders."""
    for side in LEFT_RIGHT:
        strand = curve(xy((0.075, -0.25), (0.115, -0.1), (0.13, 0.06), (0.1, 0.14), (0.06, 0.02), (0.07, -0.15)))
        drawing.fill(strand * (side, 1.0), "hair", covers=True, body=True)


def draw_hanger(drawing: Sketch, design: Design) -> None:
    """A hanger below its hook: in the shoulders, or with two clips at the waist; the rail may be outside the picture."""
    top = WAIST - 0.06 if design.clothes_type == 2 else -0.04
    hook = xy(
        (0.0, top), (0.0, top - 0.1), (0.03, top - 0.12), (0.025, top - 0.17), (-0.02, top - 0.17), (-0.03, top - 0.14)
    )
    drawing.line(hook, "metal", 0.014, body=True)
    if design.clothes_type == 2:
        drawing.line(xy((-0.17, top), (0.17, top)), "dark", 0.025, body=True)
        return
    bar = curve(xy((-0.19, 0.05), (-0.1, 0.0), (0.0, top), (0.1, 0.0), (0.19, 0.05)))
    drawing.line(bar, "hanger", 0.03, body=True)


def draw_clips(drawing: Sketch) -> None:
    """The clips that hold lower-body clothes."""
    for x in (-0.1, 0.1):
        drawing.fill(
            xy(
                (x - 0.02, WAIST - 0.08), (x + 0.02, WAIST - 0.08), (x + 0.018, WAIST + 0.03), (x - 0.018, WAIST + 0.03)
            ),
            "dark",
            body=True,
        )
