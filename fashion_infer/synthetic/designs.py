"""The design of a rendered garment: its category, measures, details and colours, and the attributes that follow.

Measures are in body units: the shoulders are at y = 0, the waist at 0.42, the hips at 0.62, the crotch at 0.74 and the
ankles at 1.6; x is 0 in the middle and grows to the viewer's right.
"""

import colorsys
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Color = tuple[int, int, int]
Span = tuple[float, float]
T = TypeVar("T")

WAIST, HIP, CROTCH, ANKLE = 0.42, 0.62, 0.74, 1.60

ATTRIBUTES_BY_GROUP: dict[str, tuple[str, ...]] = {
    "texture": (
        "solid", "striped", "pinstripe", "plaid", "gingham", "floral", "dotted", "chevron", "leopard", "camo",
        "graphic", "colorblock", "ombre",
    ),
    "fabric": (
        "cotton", "denim", "knit", "ribbed", "leather", "chiffon", "lace", "corduroy", "fleece", "satin",
    ),
    "shape": (
        "mini", "midi", "maxi", "cropped", "longline", "slim", "loose", "a-line", "flared", "pleated", "tapered",
    ),
    "part": (
        "crew neck", "v-neck", "scoop neck", "square neck", "halter neck", "turtleneck", "shirt collar",
        "peter pan collar", "stand collar", "lapel", "hood", "contrast collar", "beaded neckline", "ruffle collar",
        "sleeveless", "short-sleeve", "long-sleeve", "puff sleeve", "wide sleeve",
        "contrast cuff", "striped cuff", "lace cuff", "ribbed cuff",
        "button front", "zip front", "open front", "henley placket", "pocket", "kangaroo pocket",
        "belted", "drawstring waist", "bow waist",
        "contrast hem", "lace hem", "fringe hem", "ruffle hem", "side slit", "ribbed hem",
    ),
    "style": ("sporty", "distressed", "embroidered", "utility", "preppy"),
}  # fmt: skip
ATTRIBUTES: tuple[str, ...] = tuple(name for names in ATTRIBUTES_BY_GROUP.values() for name in names)
ATTRIBUTE_GROUPS: tuple[str, ...] = tuple(group for group, names in ATTRIBUTES_BY_GROUP.items() for _ in names)

# Detail -> the pair of landmarks where it is. It is unknown if both are occluded or outside the picture.
LOCAL_SLOTS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(
        ("contrast collar", "beaded neckline", "ruffle collar", "peter pan collar", "stand collar"), (0, 1)
    ),
    **dict.fromkeys(("contrast cuff", "striped cuff", "lace cuff", "ribbed cuff"), (2, 3)),
    **dict.fromkeys(("belted", "drawstring waist", "bow waist"), (4, 5)),
    **dict.fromkeys(("contrast hem", "lace hem", "fringe hem", "ruffle hem", "side slit", "ribbed hem"), (6, 7)),
}

NECK_ATTRIBUTES = {
    "crew": "crew neck", "v": "v-neck", "scoop": "scoop neck", "square": "square neck", "halter": "halter neck",
    "turtle": "turtleneck", "shirt": "shirt collar", "peter pan": "peter pan collar", "stand": "stand collar",
    "lapel": "lapel", "hood": "hood",
}  # fmt: skip
FRONT_ATTRIBUTES = {
    "buttons": "button front", "zip": "zip front", "open": "open front", "placket": "henley placket",
    "double": "button front", "wrap": "open front",
}  # fmt: skip


@dataclass(frozen=True)
class Cut:
    """The possible designs of a category. A design takes one name of each tuple and a number of each range.

    Attributes:
        clothes_type: 1 upper, 2 lower, 3 full body.
        necks: kinds of neck.
        sleeves: kinds of sleeve: none, short, elbow, long, puff, kimono, cape.
        hem: y of the lower edge.
        ease: width added to half of the body's width.
        flare: widening from the hips to the hem; for trousers, of each leg.
        fronts: kinds of front.
        pockets: kinds of pocket.
        legs: whether it has two legs.
        shoulder: half the distance of the shoulder points.
        fabrics: kinds of fabric.
        ribbed_edges: whether hem and cuffs are ribbed.
        belted: whether it always has a belt.
    """

    clothes_type: int
    necks: tuple[str, ...] = ("crew",)
    sleeves: tuple[str, ...] = ("none",)
    hem: Span = (0.6, 0.72)
    ease: Span = (0.02, 0.05)
    flare: Span = (0.0, 0.02)
    fronts: tuple[str, ...] = ("closed",)
    pockets: tuple[str, ...] = ("none",)
    legs: bool = False
    shoulder: float = 0.2
    fabrics: tuple[str, ...] = ("cotton",)
    ribbed_edges: bool = False
    belted: bool = False


CUTS: dict[str, Cut] = {
    "Blazer": Cut(1, ("lapel",), ("long",), (0.70, 0.80), (0.03, 0.05), (0.0, 0.03), ("buttons",), ("flap",)),
    "Blouse": Cut(1, ("peter pan", "v", "stand"), ("puff",), (0.58, 0.7), (0.03, 0.07), (0.03, 0.1),
                  ("closed", "buttons"), fabrics=("chiffon", "satin", "cotton", "lace")),
    "Bomber": Cut(1, ("stand",), ("long",), (0.56, 0.62), (0.07, 0.1), (-0.03, -0.01), ("zip",), ("slant",),
                  fabrics=("satin", "leather", "cotton"), ribbed_edges=True),
    "Button-Down": Cut(1, ("shirt",), ("long", "long", "short"), (0.68, 0.8), (0.02, 0.06), fronts=("buttons",),
                       pockets=("none", "chest"), fabrics=("cotton", "denim", "corduroy")),
    "Cardigan": Cut(1, ("v",), ("long",), (0.6, 0.95), (0.03, 0.07), fronts=("buttons", "open"),
                    pockets=("none", "patch"), fabrics=("knit", "ribbed"), ribbed_edges=True),
    "Halter": Cut(1, ("halter",), ("none",), (0.46, 0.66), (0.0, 0.03), shoulder=0.07,
                  fabrics=("cotton", "satin", "ribbed", "lace")),
    "Henley": Cut(1, ("crew",), ("long", "short", "elbow"), (0.62, 0.72), (0.01, 0.04), fronts=("placket",),
                  fabrics=("cotton", "ribbed")),
    "Hoodie": Cut(1, ("hood",), ("long",), (0.6, 0.72), (0.06, 0.1), (-0.02, 0.0), ("closed", "zip"), ("kangaroo",),
                  fabrics=("fleece", "cotton"), ribbed_edges=True),
    "Jacket": Cut(1, ("shirt", "stand"), ("long",), (0.52, 0.62), (0.04, 0.07), fronts=("zip", "buttons"),
                  pockets=("chest", "slant"), fabrics=("denim", "leather", "corduroy")),
    "Parka": Cut(1, ("hood",), ("long",), (0.88, 1.0), (0.07, 0.1), (0.0, 0.05), ("zip",), ("flap",)),
    "Poncho": Cut(1, ("crew", "v", "turtle"), ("cape",), (0.62, 0.8), (0.04, 0.06),
                  fabrics=("knit", "fleece", "cotton")),
    "Sweater": Cut(1, ("crew", "v"), ("long",), (0.58, 0.7), (0.04, 0.09), fabrics=("knit", "ribbed", "fleece"),
                   ribbed_edges=True),
    "Tank": Cut(1, ("scoop", "square", "v"), ("none",), (0.58, 0.72), (0.0, 0.04), shoulder=0.125,
                fabrics=("cotton", "ribbed")),
    "Tee": Cut(1, ("crew", "v", "scoop"), ("short",), (0.58, 0.74), (0.02, 0.07), pockets=("none", "none", "chest")),
    "Turtleneck": Cut(1, ("turtle",), ("long",), (0.6, 0.7), (0.0, 0.05), fabrics=("knit", "ribbed", "cotton")),
    "Capris": Cut(2, hem=(1.2, 1.32), ease=(0.0, 0.02), flare=(-0.01, 0.02), legs=True, pockets=("none", "slant"),
                  fabrics=("cotton", "denim")),
    "Culottes": Cut(2, hem=(1.1, 1.3), ease=(0.02, 0.05), flare=(0.09, 0.14), legs=True,
                    fabrics=("cotton", "satin", "chiffon")),
    "Cutoffs": Cut(2, hem=(0.82, 0.92), ease=(0.01, 0.03), flare=(0.02, 0.04), legs=True, pockets=("slant",),
                   fabrics=("denim",)),
    "Jeans": Cut(2, hem=(1.52, 1.62), ease=(0.0, 0.03), flare=(-0.01, 0.06), legs=True, pockets=("slant",),
                 fabrics=("denim",)),
    "Joggers": Cut(2, hem=(1.45, 1.56), ease=(0.03, 0.06), flare=(-0.03, -0.02), legs=True,
                   pockets=("slant", "none"), fabrics=("fleece", "cotton"), ribbed_edges=True),
    "Leggings": Cut(2, hem=(1.45, 1.58), ease=(-0.01, 0.0), flare=(-0.035, -0.025), legs=True,
                    fabrics=("cotton", "ribbed", "leather")),
    "Shorts": Cut(2, hem=(0.86, 1.02), ease=(0.02, 0.05), flare=(0.02, 0.06), legs=True, pockets=("slant", "none"),
                  fabrics=("cotton", "corduroy")),
    "Skirt": Cut(2, hem=(0.85, 1.5), ease=(0.0, 0.02), flare=(0.0, 0.25),
                 fabrics=("cotton", "denim", "satin", "leather", "lace")),
    "Coat": Cut(3, ("lapel", "shirt"), ("long",), (1.05, 1.35), (0.05, 0.08), (0.02, 0.12), ("double", "buttons"),
                ("flap", "patch"), fabrics=("fleece", "cotton", "leather")),
    "Dress": Cut(3, ("crew", "v", "scoop", "square", "peter pan"), ("none", "short", "elbow", "long", "puff"),
                 (0.92, 1.55), (0.0, 0.03), (0.02, 0.3), fabrics=("cotton", "chiffon", "satin", "lace", "knit")),
    "Jumpsuit": Cut(3, ("v", "square", "shirt"), ("none", "short", "long"), (1.45, 1.58), (0.01, 0.04), (0.0, 0.08),
                    ("closed", "zip"), legs=True, fabrics=("cotton", "satin", "denim")),
    "Kimono": Cut(3, ("v",), ("kimono",), (0.9, 1.4), (0.05, 0.08), (0.0, 0.04), ("open",),
                  fabrics=("satin", "chiffon", "cotton")),
    "Robe": Cut(3, ("lapel",), ("long",), (1.0, 1.3), (0.05, 0.08), (0.02, 0.06), ("wrap",), ("patch",),
                fabrics=("fleece", "satin"), belted=True),
    "Romper": Cut(3, ("v", "scoop", "square"), ("none", "short"), (0.85, 0.95), (0.01, 0.04), (0.03, 0.07),
                  legs=True, fabrics=("cotton", "chiffon", "satin")),
}  # fmt: skip


@dataclass(frozen=True)
class Design:
    """The design of an item: everything that is the same in all its pictures."""

    category: str
    clothes_type: int
    neck: str
    neck_width: float  # half of the neck opening
    sleeve: str
    hem: float
    ease: float
    flare: float
    front: str
    pocket: str
    legs: bool
    shoulder: float
    texture: str
    fabric: str
    pleated: bool
    collar_trim: str  # none, contrast, beaded, ruffle
    cuff_trim: str  # none, contrast, striped, lace, ribbed
    waist_trim: str  # none, belted, drawstring, bow
    hem_trim: str  # none, contrast, lace, fringe, ruffle, slit, ribbed
    style: str  # none, or one of the style group
    base: Color
    second: Color  # second colour of the pattern
    trim: Color


def pick(rng: np.random.Generator, options: tuple[T, ...]) -> T:
    """Draw one of the options; all have the same probability."""
    return options[int(rng.integers(len(options)))]


def draw_design(rng: np.random.Generator, category: str) -> Design:
    """Draw a random garment of a category."""
    cut = CUTS[category]
    neck, sleeve, fabric = pick(rng, cut.necks), pick(rng, cut.sleeves), pick(rng, cut.fabrics)
    texture = draw_texture(rng, fabric)
    base, second, trim = draw_colors(rng, fabric, texture)
    has_waist = cut.clothes_type != 1 or category == "Parka"
    open_neck = cut.clothes_type != 2 and neck in ("crew", "v", "scoop", "square")
    ribbed, cuffs = cut.ribbed_edges, sleeve not in ("none", "cape")
    return Design(
        category=category,
        clothes_type=cut.clothes_type,
        neck=neck,
        neck_width=rng.uniform(0.075, 0.095) + (0.025 if neck in ("scoop", "square") and cut.shoulder > 0.13 else 0.0),
        sleeve=sleeve,
        hem=rng.uniform(*cut.hem),
        ease=rng.uniform(*cut.ease),
        flare=rng.uniform(*cut.flare),
        front=pick(rng, cut.fronts),
        pocket=pick(rng, cut.pockets),
        legs=cut.legs,
        shoulder=cut.shoulder,
        texture=texture,
        fabric=fabric,
        pleated=not cut.legs and category in ("Skirt", "Dress") and rng.random() < 0.3,
        collar_trim=draw_trim(rng, ("contrast", "beaded", "ruffle"), open_neck),
        cuff_trim="ribbed" if ribbed and cuffs else draw_trim(rng, ("contrast", "striped", "lace"), cuffs),
        waist_trim="belted" if cut.belted else draw_trim(rng, ("belted", "drawstring", "bow"), has_waist),
        hem_trim="ribbed" if ribbed else draw_trim(rng, ("contrast", "lace", "fringe", "ruffle", "slit")),
        style=draw_trim(rng, ATTRIBUTES_BY_GROUP["style"], share=0.35),
        base=base,
        second=second,
        trim=trim,
    )  # fmt: skip


def draw_trim(rng: np.random.Generator, options: tuple[str, ...], possible: bool = True, share: float = 0.6) -> str:
    """Draw one of the options for a share of all items, else "none".

    The number of random draws is always the same, so that later draws do not depend on the result.
    """
    chosen = pick(rng, options)
    return chosen if rng.random() < share and possible else "none"


def draw_texture(rng: np.random.Generator, fabric: str) -> str:
    """Draw a texture that suits the fabric; about a third of all items are solid."""
    chosen = pick(rng, ATTRIBUTES_BY_GROUP["texture"])
    plain_only = ("denim", "leather", "lace", "corduroy")
    return "solid" if fabric in plain_only or rng.random() < 0.3 else chosen


def draw_colors(rng: np.random.Generator, fabric: str, texture: str) -> tuple[Color, Color, Color]:
    """Draw the colours of cloth, pattern and trims; those of pattern and trims differ from the cloth in brightness."""
    hue, saturation, value = rng.random(), rng.uniform(0.05, 0.8), rng.uniform(0.2, 0.95)
    if fabric == "denim":
        hue, saturation, value = rng.uniform(0.57, 0.63), rng.uniform(0.35, 0.6), rng.uniform(0.3, 0.7)
    elif fabric == "leather":
        hue, saturation, value = rng.uniform(0.0, 0.09), rng.uniform(0.1, 0.6), rng.uniform(0.15, 0.4)
    elif texture == "camo":
        hue, saturation, value = rng.uniform(0.2, 0.28), rng.uniform(0.3, 0.5), rng.uniform(0.4, 0.5)
    elif texture == "leopard":
        hue, saturation, value = rng.uniform(0.08, 0.12), rng.uniform(0.4, 0.6), rng.uniform(0.7, 0.9)
    other = value - 0.45 if value > 0.55 else value + 0.45
    second_hue = hue if texture == "camo" else hue + rng.uniform(0.0, 1.0)
    trim_value = float(np.clip(other + rng.uniform(-0.1, 0.1), 0.05, 1.0))
    return (
        rgb(hue, saturation, value),
        rgb(second_hue, rng.uniform(0.1, 0.8), other),
        rgb(hue + rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.9), trim_value),
    )


def rgb(hue: float, saturation: float, value: float) -> Color:
    """Convert a hue (in turns, any number), a saturation and a value in [0, 1] to RGB from 0 to 255."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def attributes_of(design: Design) -> frozenset[str]:
    """The names of the attributes that the item has."""
    names = {
        design.texture,
        design.fabric,
        NECK_ATTRIBUTES.get(design.neck, ""),
        FRONT_ATTRIBUTES.get(design.front, ""),
    }
    if design.clothes_type == 2:
        names -= set(NECK_ATTRIBUTES.values())
    names |= {design.style, *shape_attributes(design), *sleeve_attributes(design)}
    names |= {f"{design.cuff_trim} cuff", "side slit" if design.hem_trim == "slit" else f"{design.hem_trim} hem"}
    names |= {
        {"contrast": "contrast collar", "beaded": "beaded neckline", "ruffle": "ruffle collar"}.get(
            design.collar_trim, ""
        )
    }
    names |= {{"belted": "belted", "drawstring": "drawstring waist", "bow": "bow waist"}.get(design.waist_trim, "")}
    if design.pocket != "none" or design.style == "utility":
        names |= {"pocket"}
    if design.pocket == "kangaroo":
        names |= {"kangaroo pocket"}
    return frozenset(names & set(ATTRIBUTES))


def shape_attributes(design: Design) -> set[str]:
    """The attributes of the shape: length, width and cut, by fixed limits in body units."""
    names = {
        "slim" if design.ease < 0.015 else "loose" if design.ease > 0.055 else "",
        "pleated" if design.pleated else "",
    }
    if design.clothes_type == 1:
        names |= {"cropped" if design.hem < 0.58 else "longline" if design.hem > 0.78 else ""}
    else:
        names |= {"mini" if design.hem < 1.0 else "midi" if design.hem < 1.38 else "maxi"}
    if design.legs:
        names |= {"flared" if design.flare > 0.035 else "tapered" if design.flare < -0.015 else ""}
    elif design.clothes_type != 1:
        names |= {"a-line" if design.flare > 0.1 else ""}
    return names


def sleeve_attributes(design: Design) -> set[str]:
    """The attributes of the sleeve's length and form; lower-body clothes have none."""
    if design.clothes_type == 2:
        return set()
    return {
        "none": {"sleeveless"}, "short": {"short-sleeve"}, "elbow": set[str](), "long": {"long-sleeve"},
        "puff": {"puff sleeve", "long-sleeve"}, "kimono": {"wide sleeve", "long-sleeve"}, "cape": {"wide sleeve"},
    }[design.sleeve]  # fmt: skip
