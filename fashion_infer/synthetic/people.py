"""The wearer or the hanger of a garment: poses, the body with its arms and legs, and a hanger."""

from dataclasses import dataclass

import numpy as np

from fashion_infer.synthetic.designs import ANKLE, HIP, WAIST, Design
from fashion_infer.synthetic.sketching import CIRCLE, Floats, Sketch, curve, mirrored, xy

LEFT_RIGHT = (-1.0, 1.0)
SHOULDER: Floats = np.array([0.185, 0.1])  # the joint of the right arm
UPPER_ARM, FOREARM = 0.3, 0.34  # lengths in body units
KNEE_Y = 1.14
HEAD: Floats = np.array([0.0, -0.24])
PERSON_TOP, PERSON_BOTTOM = -0.4, ANKLE + 0.14

# Ranges in radians of the upper arm's angle, and of the forearm's additional turn inwards.
ARMS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "hanging": ((0.1, 0.4), (-0.05, 0.35)),
    "apart": ((0.4, 0.8), (-0.1, 0.6)),
    "on hip": ((0.7, 0.85), (1.4, 1.6)),
    "in pocket": ((0.4, 0.5), (0.85, 1.0)),
    "across": ((0.12, 0.28), (1.75, 2.1)),
    "raised": ((0.3, 0.5), (-2.5, -2.1)),
    "behind": ((0.08, 0.4), (1.6, 2.2)),
}


@dataclass(frozen=True)
class Pose:
    """How a garment is shown in one view: it is worn, hangs, or lies. Pairs are (left, right).

    Attributes:
        arms: angles of the upper arms in radians, from hanging straight down outwards.
        bends: additional turns of the forearms inwards in radians.
        behind: whether the sleeve is behind the body.
        legs: distances of the ankles outwards in body units; negative if the legs are crossed.
        worn: whether a person wears it.
        hanging: whether it hangs.
        on_rail: whether the hanger is on a rail, else on a hook.
        long_hair: whether the person has long hair.
        tucked: whether the upper garment is tucked into the lower one.
    """

    arms: tuple[float, float] = (0.35, 0.35)
    bends: tuple[float, float] = (0.0, 0.0)
    behind: tuple[bool, bool] = (False, False)
    legs: tuple[float, float] = (0.02, 0.02)
    worn: bool = False
    hanging: bool = False
    on_rail: bool = False
    long_hair: bool = False
    tucked: bool = False


def draw_pose(rng: np.random.Generator, consumer: bool) -> Pose:
    """Draw a pose. About two fifths of the consumers' garments are worn, the others lie or hang; shops are tidier."""
    chances = rng.random(5)
    worn = bool(chances[0] < (0.42 if consumer else 0.5))
    arms, bends, behind = worn_arms(rng) if worn and consumer else laid_arms(rng, 1.0 if consumer else 0.35)
    return Pose(
        arms=arms,
        bends=bends,
        behind=behind,
        legs=draw_legs_pose(rng, worn and consumer),
        worn=worn,
        hanging=consumer and not worn and bool(chances[1] < 0.35),
        on_rail=bool(chances[4] < 0.4),
        long_hair=bool(chances[2] < 0.35),
        tucked=bool(chances[3] < 0.35),
    )


def worn_arms(rng: np.random.Generator) -> tuple[tuple[float, float], tuple[float, float], tuple[bool, bool]]:
    """Draw the angles and bends of a person's arms, and which are behind the back."""
    names = list(rng.choice(list(ARMS), 2, p=(0.4, 0.12, 0.14, 0.14, 0.06, 0.06, 0.08)))
    if rng.random() < 0.1:
        names = ["across", "across"]
    left, right = (tuple(float(rng.uniform(*span)) for span in ARMS[name]) for name in names)
    return (left[0], right[0]), (left[1], right[1]), (names[0] == "behind", names[1] == "behind")


def laid_arms(
    rng: np.random.Generator, wild: float
) -> tuple[tuple[float, float], tuple[float, float], tuple[bool, bool]]:
    """Draw the angles and bends of the sleeves of a garment in a shop, or of one that lies or hangs.

    A sleeve may be folded behind the garment. `wild` scales the variation.
    """
    arms = 0.28 + rng.uniform(-0.2, 0.5, 2) * wild
    behind = rng.random(2) < 0.15 * wild
    bends = np.where(behind, rng.uniform(1.6, 2.2, 2), rng.uniform(-0.2, 1.0, 2) * wild)
    return (
        (float(arms[0]), float(arms[1])),
        (float(bends[0]), float(bends[1])),
        (bool(behind[0]), bool(behind[1])),
    )


def draw_legs_pose(rng: np.random.Generator, person: bool) -> tuple[float, float]:
    """Draw the legs: straight, or for a person sometimes a step to one side or crossed legs."""
    kind, swing = rng.random(), float(rng.uniform(0.0, 0.08))
    if not person or kind < 0.6:
        return swing, swing
    far = float(rng.uniform(0.12, 0.25))
    legs = (far, swing) if kind < 0.8 else (swing, 0.05 - far)
    return legs if rng.random() < 0.5 else legs[::-1]


def limb(drawing: Sketch, joints: Floats, halves: tuple[float, ...], paint: str, covers: bool = False) -> None:
    """Draw an arm or a leg.

    Args:
        drawing: the drawing.
        joints: [K, 2] points of the joints.
        halves: [K] half of the width at each joint.
        paint: name of the colour.
        covers: whether it hides what was drawn before.
    """
    for start, end, wide, narrow in zip(joints[:-1], joints[1:], halves[:-1], halves[1:], strict=True):
        along = (end - start) / float(np.hypot(*(end - start)))
        across = np.array([-along[1], along[0]])
        quad = np.stack([start + across * wide, end + across * narrow, end - across * narrow, start - across * wide])
        drawing.fill(quad, paint, covers=covers, body=True)
        drawing.fill(end + CIRCLE * narrow, paint, covers=covers, body=True)


def draw_arm(drawing: Sketch, pose: Pose, side: int, from_sleeve: bool = False, covers: bool = True) -> None:
    """Draw one arm (0 left, 1 right) with its hand; if there is a sleeve, the beginning of the arm is left out."""
    flip = np.array([LEFT_RIGHT[side], 1.0])
    upper, lower = pose.arms[side], pose.arms[side] - pose.bends[side]
    elbow = SHOULDER + UPPER_ARM * np.array([np.sin(upper), np.cos(upper)])
    start = SHOULDER + (elbow - SHOULDER) * (0.4 if from_sleeve else 0.0)
    forward = np.array([np.sin(lower), np.cos(lower)])
    wrist = elbow + FOREARM * forward
    limb(drawing, np.stack([start, elbow, wrist]) * flip, (0.052, 0.04, 0.028), "skin", covers)
    across = np.array([forward[1], -forward[0]])
    hand = wrist + 0.04 * forward + CIRCLE[:, :1] * forward * 0.055 + CIRCLE[:, 1:] * across * 0.034
    drawing.fill(hand * flip, "skin", covers=covers, body=True)
    drawing.line(np.stack([wrist + 0.05 * forward, wrist + 0.09 * forward]) * flip, "skin shade", 0.006, body=True)


def draw_body(drawing: Sketch, pose: Pose) -> None:
    """Draw the person under all clothes; arms in front are drawn later, with the upper garment."""
    for side in (side for side in (0, 1) if pose.behind[side]):
        draw_arm(drawing, pose, side, covers=False)
    if pose.long_hair:
        drawing.fill(HEAD + (0.0, 0.06) + CIRCLE * (0.135, 0.2), "hair", body=True)
    for side in (0, 1):
        draw_leg(drawing, pose, side)
    trunk = xy((0.0, -0.18), (0.052, -0.18), (0.055, -0.03), (0.185, 0.04), (0.15, 0.25), (0.13, WAIST), (0.17, HIP),
               (0.17, 0.74), (0.0, 0.78))  # fmt: skip
    drawing.fill(mirrored(trunk), "skin", body=True)
    drawing.fill(xy((-0.05, -0.13), (0.05, -0.13), (0.02, -0.08), (-0.02, -0.08)), "skin shade", body=True)
    draw_head(drawing)


def draw_leg(drawing: Sketch, pose: Pose, side: int) -> None:
    """Draw one bare leg and its shoe."""
    flip = np.array([LEFT_RIGHT[side], 1.0])
    ankle = 0.115 + pose.legs[side]
    knee = 0.1 + 0.5 * pose.legs[side]
    limb(drawing, xy((0.09, HIP), (knee, KNEE_Y), (ankle, ANKLE)) * flip, (0.085, 0.062, 0.036), "skin")
    shoe = xy((-0.045, -0.02), (0.04, -0.02), (0.06, 0.06), (0.085, 0.1), (-0.045, 0.1))
    drawing.fill((np.array([ankle, ANKLE]) + shoe) * flip, "shoe", body=True)
    drawing.line((np.array([ankle, ANKLE]) + shoe[3:]) * flip, "white", 0.018, body=True)


def draw_head(drawing: Sketch) -> None:
    """Draw the face and the hair."""
    drawing.fill(HEAD + np.concatenate([CIRCLE, CIRCLE[:1]]) * (0.082, 0.118), "skin", body=True)
    cap = curve(xy((-0.092, -0.22), (-0.075, -0.345), (0.0, -0.375), (0.075, -0.345), (0.092, -0.22), (0.0, -0.31)))
    drawing.fill(cap, "hair", body=True)
    for x in (-0.032, 0.032):
        drawing.line(xy((x - 0.011, -0.25), (x + 0.011, -0.25)), "dark", 0.014, body=True)
    drawing.line(xy((-0.022, -0.18), (0.0, -0.176), (0.022, -0.18)), "lips", 0.012, body=True)


def draw_long_hair(drawing: Sketch) -> None:
    """Draw strands of hair that fall over the collar."""
    for side in LEFT_RIGHT:
        strand = curve(xy((0.085, -0.25), (0.125, -0.1), (0.13, 0.06), (0.1, 0.14), (0.06, 0.02), (0.07, -0.15)))
        drawing.fill(strand * (side, 1.0), "hair", covers=True, body=True)


def draw_hanger(drawing: Sketch, design: Design, on_rail: bool) -> None:
    """Draw a hanger, in the shoulders or clipped to the waist, which hangs on a hook or on a rail."""
    low = design.clothes_type == 2
    top = WAIST - 0.03 if low else -0.06
    high = top - 0.17 - (0.13 if design.neck == "hood" and not low else 0.0)
    if on_rail:
        drawing.line(xy((-3.0, high - 0.035), (3.0, high - 0.035)), "metal", 0.035, body=True)
    else:
        drawing.fill(np.array([0.0, high]) + CIRCLE * 0.022, "dark", body=True)
    hook = curve(xy((0.0, top), (0.0, high + 0.06), (0.035, high + 0.03), (0.02, high - 0.01), (-0.025, high)))
    drawing.line(hook, "metal", 0.012, body=True)
    reach, drop = (0.15, 0.0) if low else (max(0.1, design.shoulder), 0.08)
    drawing.line(xy((-reach, top + drop), (0.0, top), (reach, top + drop)), "wood", 0.022, body=True)
    if low:
        for x in (-0.11, 0.11):
            drawing.line(xy((x, top), (x, top + 0.05)), "metal", 0.03, body=True)
