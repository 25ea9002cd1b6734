"""LandmarkPool as an ONNX model-local function of standard operators, so that any runtime can run the file.

Of eight ways to write it, this one was the fastest on ONNX Runtime's CPU provider: the cells of the feature map become
rows of channels with a row of zeros at the end, followed by one gather and one maximum. Cells outside the map or behind
a closed gate read the row of zeros, so they are exactly 0 even if the features are infinite or NaN.
"""

from fashion_infer.errors import missing_extra

try:
    import onnx
    import onnx.parser
except ImportError as error:
    raise missing_extra("onnx", "export", error) from error

DOMAIN, NAME, VERSION = "fashion_infer", "LandmarkPool", 1
OPSET = 20

# Every shape is given in full, since -1 in a Reshape cannot be resolved for a batch of 0. The cell is computed in
# float32 for all input types, and cast to an integer only after clamping, so that NaN and infinity are never cast.
_FUNCTION = """
<opset_import: ["" : 20], domain: "fashion_infer">
LandmarkPool <pooled_size: int = 4, bin_size: int = 2> (X, L, V) => (Y)
{
    k = Constant <value_int: int = @pooled_size> ()
    s = Constant <value_int: int = @bin_size> ()
    zero = Constant <value = int64 {0}> ()
    one = Constant <value = int64 {1}> ()
    two = Constant <value = int64 {2}> ()
    unit = Constant <value = int64[1] {1}> ()
    zero_f = Constant <value = float {0.0}> ()
    one_f = Constant <value = float {1.0}> ()

    n = Shape <start = 0, end = 1> (X)
    c = Shape <start = 1, end = 2> (X)
    h = Shape <start = 2, end = 3> (X)
    w = Shape <start = 3, end = 4> (X)
    p = Shape <start = 1, end = 2> (L)
    k1 = Reshape (k, unit)
    s1 = Reshape (s, unit)
    kk = Mul (k1, k1)
    ss = Mul (s1, s1)
    hw = Mul (h, w)

    locations = Cast <to = 1> (L)
    unknown = IsNaN (locations)
    known = Where (unknown, zero_f, locations)
    width_height = Concat <axis = 0> (w, h)
    size = Cast <to = 1> (width_height)
    scaled = Mul (known, size)
    floored = Floor (scaled)
    last = Sub (size, one_f)
    below = Min (floored, last)
    clamped = Max (below, zero_f)
    cell = Cast <to = 7> (clamped)
    cell_x = Gather <axis = 2> (cell, zero)
    cell_y = Gather <axis = 2> (cell, one)

    gate = Cast <to = 1> (V)
    positive = Greater (gate, zero_f)
    unknown_x = Gather <axis = 2> (unknown, zero)
    unknown_y = Gather <axis = 2> (unknown, one)
    unknown_any = Or (unknown_x, unknown_y)
    located = Not (unknown_any)
    open = And (positive, located)

    side = Mul (k, s)
    half = Div (side, two)
    steps = Range (zero, side, one)
    offsets = Sub (steps, half)
    shape_y = Concat <axis = 0> (k1, unit, s1, unit)
    shape_x = Concat <axis = 0> (unit, k1, unit, s1)
    offset_y = Reshape (offsets, shape_y)
    offset_x = Reshape (offsets, shape_x)
    axes = Constant <value = int64[4] {2, 3, 4, 5}> ()
    centre_y = Unsqueeze (cell_y, axes)
    centre_x = Unsqueeze (cell_x, axes)
    y = Add (centre_y, offset_y)
    x = Add (centre_x, offset_x)
    after_top = GreaterOrEqual (y, zero)
    before_bottom = Less (y, h)
    after_left = GreaterOrEqual (x, zero)
    before_right = Less (x, w)
    inside_y = And (after_top, before_bottom)
    inside_x = And (after_left, before_right)
    inside = And (inside_y, inside_x)
    open_window = Unsqueeze (open, axes)
    counted = And (inside, open_window)
    row_start = Mul (y, w)
    row = Add (row_start, x)
    index = Where (counted, row, hw)
    index_shape = Concat <axis = 0> (n, p, kk, ss, unit)
    indices = Reshape (index, index_shape)

    channels_last = Transpose <perm = [0, 2, 3, 1]> (X)
    rows_shape = Concat <axis = 0> (n, hw, c)
    rows = Reshape (channels_last, rows_shape)
    pads = Constant <value = int64[6] {0, 0, 0, 0, 1, 0}> ()
    zero_x = CastLike (zero_f, X)
    padded = Pad (rows, pads, zero_x)
    cells = GatherND <batch_dims = 1> (padded, indices)
    bin_axis = Constant <value = int64[1] {3}> ()
    highest = ReduceMax <keepdims = 0> (cells, bin_axis)

    open_gate = Where (open, gate, zero_f)
    scale = CastLike (open_gate, X)
    scale_axes = Constant <value = int64[2] {2, 3}> ()
    scale_4d = Unsqueeze (scale, scale_axes)
    gated = Mul (highest, scale_4d)
    channels_first = Transpose <perm = [0, 1, 3, 2]> (gated)
    output_shape = Concat <axis = 0> (n, p, c, k1, k1)
    Y = Reshape (channels_first, output_shape)
}
"""


def landmark_pool_function() -> onnx.FunctionProto:
    """Return the function `fashion_infer.LandmarkPool(X, L, V; pooled_size, bin_size)`.

    X are the features, L the landmarks and V the gates. Every node is named after its output.
    """
    function = onnx.parser.parse_function(_FUNCTION)
    for node in function.node:
        node.name = f"{NAME}/{node.output[0]}"
    return function


def add_landmark_pool(model: onnx.ModelProto) -> None:
    """Add the function to a model that calls it, and its domain to the model's operator sets."""
    model.functions.append(landmark_pool_function())
    if DOMAIN not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
