"""The register tile: rows x (vecs * lanes) numbers that the compiler keeps in vector registers.

This is the only file that writes LLVM's instructions for kernels. A tile is a Numba value: `load` and `store` move it
between registers and flat arrays, `outer` adds the outer product of a column and a row to it (the one instruction that
training consists of), and `+ - * /`, `sqrt`, `maximum`, `where_nonzero`, `exp`, `log`, ... work on all its numbers at
once. The element type comes from the arrays, the shape from literal integers, so one source of a kernel
serves float32 and float64. A column of a full tile is a tile too, with a number for each of the ROWS rows: so a vector
serves as many rows where there are fewer columns than a vector is wide.

Memory is named by a pointer and an offset in elements: `pointer(array)` is the only thing kernels pass on of an array,
as a pointer costs one register where an array costs seven and a count of references that every call changes. Nothing is
checked: storage is padded to whole tiles (see `storage`), and only `load_part` and `store_part` may touch memory that
the package did not allocate. What a kernel is told stands in records, rows of numbers and pointers with names.
"""

import math
import operator
import os
import sys

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global, signature
from numba.extending import (
    intrinsic,
    lower_builtin,
    lower_getattr_generic,
    lower_setattr_generic,
    models,
    register_model,
)

INT32, INT64 = ir.IntType(32), ir.IntType(64)


# ---- what the processor has -------------------------------------------------------------------------------------


def host():
    """Name and features of this machine's processor, as LLVM has them."""
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features()


def _compiles_to(registers, bits):
    """Whether Numba's target turns arithmetic on vectors of so many bits into instructions on these registers."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    if config.CPU_NAME is None:
        cpu, features = host()
        features = features.flatten()
    else:  # a processor chosen by NUMBA_CPU_NAME: what its name implies, not what the host adds
        cpu, features = config.CPU_NAME, ""
    if config.CPU_FEATURES is not None:
        features = config.CPU_FEATURES
    vector = f"<{bits // 32} x float>"
    module = llvm.parse_assembly(
        f"declare {vector} @llvm.fma.v{bits // 32}f32({vector}, {vector}, {vector})\n"
        f"define {vector} @f({vector} %x, {vector} %y) {{\n"
        f"  %z = call {vector} @llvm.fma.v{bits // 32}f32({vector} %x, {vector} %y, {vector} %y)\n"
        f"  ret {vector} %z\n}}"
    )
    target = llvm.Target.from_triple(llvm.get_process_triple())
    assembly = target.create_target_machine(cpu=cpu, features=features).emit_assembly(module)
    return registers in assembly and "fma" in assembly.replace("fmla", "fma") and "call" not in assembly


def _shape():
    """Bits in a vector, rows and vectors of a full tile: enough sums at once to hide the latency of a multiply-add.

    A panel of float64, as wide as a tile, must be a multiple of the rows: gradients take that many of its columns.
    """
    if _compiles_to("zmm", 512):
        return 512, 8, 2  # 16 of 32 registers hold sums
    if _compiles_to("ymm", 256):
        return 256, 4, 3  # 12 of 16
    return 128, 4, 4  # NEON has 32 registers; anything else works, slower


VECTOR_BITS, ROWS, VECS = _shape()
FUSED = VECTOR_BITS > 128 or _compiles_to("v0", 128)


def lanes_of(dtype):
    """How many numbers of this NumPy dtype a vector holds."""
    return VECTOR_BITS // 8 // dtype.itemsize


class TileType(types.Type):
    """Numba's type of a tile: `rows` x `vecs` vectors of `dtype`."""

    def __init__(self, dtype, rows, vecs):
        self.dtype, self.rows, self.vecs = dtype, rows, vecs
        self.lanes = VECTOR_BITS // dtype.bitwidth
        self.element = ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()
        self.vector = ir.VectorType(self.element, self.lanes)
        self.array = ir.ArrayType(self.vector, rows * vecs)
        super().__init__(name=f"Tile({dtype}, {rows}x{vecs}x{self.lanes})")


@register_model(TileType)
class TileModel(models.PrimitiveModel):
    def __init__(self, dmm, tile):
        super().__init__(dmm, tile, tile.array)


# ---- vectors as formulas ----------------------------------------------------------------------------------------


class Vector:
    """An LLVM vector with Python's operators: what is written with them is compiled, not computed."""

    def __init__(self, builder, value):
        self.builder, self.value, self.type = builder, value, value.type
        self.lanes = value.type.count
        self.bits = 32 if value.type.element == ir.FloatType() else 64

    def constant(self, number):
        return Vector(self.builder, ir.Constant(self.type, [float(number)] * self.lanes))

    def _binary(self, instruction, other, swap=False):
        a, b = self, other if isinstance(other, Vector) else self.constant(other)
        if swap:
            a, b = b, a
        return Vector(self.builder, getattr(self.builder, instruction)(a.value, b.value))

    def __add__(self, other):
        return self._binary("fadd", other)

    def __sub__(self, other):
        return self._binary("fsub", other)

    def __mul__(self, other):
        return self._binary("fmul", other)

    def __truediv__(self, other):
        return self._binary("fdiv", other)

    def __rsub__(self, other):
        return self._binary("fsub", other, swap=True)

    __radd__, __rmul__ = __add__, __mul__

    def intrinsic(self, name, *others):
        vectors = [v if isinstance(v, Vector) else self.constant(v) for v in (self, *others)]
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(self.type, [self.type] * len(vectors)),
            f"llvm.{name}.v{self.lanes}f{self.bits}",
        )
        return Vector(self.builder, self.builder.call(function, [v.value for v in vectors]))

    def times_plus(self, factor, addend):
        """self * factor + addend, rounded once where the processor can."""
        return self.intrinsic("fma" if FUSED else "fmuladd", factor, addend)

    def where(self, comparison, other, yes, no):
        """`yes` where `self comparison other`, else `no`; a NaN makes every comparison but != false."""
        other, yes, no = (v if isinstance(v, Vector) else self.constant(v) for v in (other, yes, no))
        compare = self.builder.fcmp_unordered if comparison == "!=" else self.builder.fcmp_ordered
        condition = compare(comparison, self.value, other.value)
        return Vector(self.builder, self.builder.select(condition, yes.value, no.value))

    def bits_of(self):
        """The numbers' bits as integers of the same width."""
        integers = ir.VectorType(INT32 if self.bits == 32 else INT64, self.lanes)
        return self.builder.bitcast(self.value, integers)


def _polynomial(x, coefficients):
    """c_0 + c_1 x + c_2 x^2 + ..., by Horner's rule."""
    *rest, total = [x.constant(c) for c in coefficients]
    for coefficient in reversed(rest):
        total = total.times_plus(x, coefficient)
    return total


# (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2, interpolated at Chebyshev nodes: 0.01 units in the last place
_EXP_COEFFICIENTS = {
    32: (
        0.50000000134981778643, 0.16666666681659179129, 0.041666464602026541557, 0.0083333108895820771937,
        0.0013933685862617173589, 0.00019891030654370327738,
    ),
    64: (
        0.5, 0.16666666666666671008, 0.041666666666666669767, 0.0083333333333261120526, 0.0013888888888883731828,
        0.00019841269874901259234, 0.000024801587325605322782, 2.7557255297969644392e-6, 2.7557273570102139673e-7,
        2.5105259538448493419e-8, 2.0914717341716375952e-9,
    ),
}  # fmt: skip
# ln 2 in two parts, the first short enough for n times it to be exact (Cody and Waite)
_LN2 = {32: (0.693145751953125, 1.428606765330187e-06), 64: (0.6931471803691238164901733, 1.9082149292705877e-10)}
_MANTISSA = {32: 23, 64: 52}


def _reduce(x):
    """For x = n ln 2 + r with |r| <= ln 2 / 2: r, e^r - 1 - r, and the integers n. |x| may be at most some 2,000."""
    builder, magic = x.builder, 1.5 * 2.0 ** _MANTISSA[x.bits]
    shifted = x.times_plus(1.4426950408889634, magic)  # the rounded quotient stands in the lowest bits
    n = shifted - magic
    high, low = _LN2[x.bits]
    r = n.times_plus(-low, n.times_plus(-high, x))
    integers = builder.sub(shifted.bits_of(), x.constant(magic).bits_of())
    return r, r * r * _polynomial(r, _EXP_COEFFICIENTS[x.bits]), integers


def _power_of_two(x, n):
    """2^n as numbers like x, for n that a normal number can have as its exponent."""

    def splat(k):
        return ir.Constant(n.type, [k] * x.lanes)

    biased = x.builder.add(n, splat(127 if x.bits == 32 else 1023))
    return Vector(x.builder, x.builder.bitcast(x.builder.shl(biased, splat(_MANTISSA[x.bits])), x.type))


_EXP_ENDS = {32: (-104.0, 89.0), 64: (-746.0, 710.0)}  # of x; beyond, e^x is 0 or infinity


def _scaled(x, significand, n):
    """significand 2^n for e^x; in two halves, so that n may run through all exponents, denormals included."""
    significand = x.where("<", _EXP_ENDS[x.bits][0], 0.0, significand)  # an underflow would take a hundred cycles
    half = x.builder.ashr(n, ir.Constant(n.type, [1] * x.lanes))
    return significand * _power_of_two(x, half) * _power_of_two(x, x.builder.sub(n, half))


def _exp(x):
    """e^x = (1 + (e^r - 1)) 2^n"""
    low, high = _EXP_ENDS[x.bits]
    y = x.where(">", high, high, x)
    y = y.where("<", low, low, y)
    r, rest, n = _reduce(y)
    leading = r + 1.0
    return _scaled(x, leading + (rest + (r - (leading - 1.0))), n)  # what rounding 1 + r lost comes back


def _exp_of_minus(x):
    """e^-|x|, within 1 unit in the last place."""
    x = x.intrinsic("fabs") * -1.0
    low, _ = _EXP_ENDS[x.bits]
    r, rest, n = _reduce(x.where("<", low, low, x))
    return _scaled(x, r + rest + 1.0, n)


def _times_exp(y, x):
    """y e^x = y 2^n + y 2^n (e^r - 1) for |x| <= 87: rounded once, and half as many instructions as e^x takes."""
    r, _, n = _reduce(x)
    y = y * _power_of_two(x, n)
    return y.times_plus(r * _polynomial(r, (1.0, *_EXP_COEFFICIENTS[x.bits])), y)


def _expm1_of_minus(x):
    """e^-|x| - 1 = 2^n (e^r - 1) + (2^n - 1), exact to the last bits near 0."""
    x = x.intrinsic("fabs") * -1.0
    low, _ = _EXP_ENDS[x.bits]
    r, rest, n = _reduce(x.where("<", low, low, x))
    scale = _scaled(x, x.constant(1.0), n)
    return scale.times_plus(r + rest, scale - 1.0)


# (ln((1 + s) / (1 - s)) - 2 s) / s by powers of s^2, from fdlibm's logf and log: below 1 unit in the last place
_LOG_COEFFICIENTS = {
    32: (0.66666662693023681640625, 0.400009721517562866211, 0.284987866878509521484, 0.242790788412094116211),
    64: (
        0.6666666666666735130, 0.3999999999940941908, 0.2857142874366239149, 0.2222219843214978396, 0.1818357216161805,
        0.1531383769920937332, 0.1479819860511658591,
    ),
}  # fmt: skip
_HALF_ROOT = {32: 0x3F3504F3, 64: 0x3FE6A09E667F3BCD}  # the bits of sqrt(1/2)


def _log(x):
    """ln x = k ln 2 + ln(1 + f) for x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2); -infinity at 0, NaN below."""
    builder, bits, root = x.builder, _MANTISSA[x.bits], _HALF_ROOT[x.bits]
    integer, tiny = INT32 if x.bits == 32 else INT64, 2.0 ** (-126 if x.bits == 32 else -1022)

    def splat(k):
        return ir.Constant(ir.VectorType(integer, x.lanes), [k] * x.lanes)

    y = x.where("<", tiny, x * 2.0**bits, x)  # denormals
    distance = builder.sub(y.bits_of(), splat(root))
    k = Vector(builder, builder.sitofp(builder.ashr(distance, splat(bits)), x.type))
    k = k + x.where("<", tiny, -float(bits), 0.0)
    fraction = builder.add(builder.and_(distance, splat(2**bits - 1)), splat(root))
    f = Vector(builder, builder.bitcast(fraction, x.type)) - 1.0
    s = f / (f + 2.0)
    rest = s * s * _polynomial(s * s, _LOG_COEFFICIENTS[x.bits])
    half = f * f * 0.5
    high, low = _LN2[x.bits]
    result = k * high + (f - (half - (s * (half + rest) + k * low)))
    result = x.where("==", math.inf, x, x.where("<", 0.0, math.nan, result))
    return x.where("==", 0.0, -math.inf, x.where("!=", x, x, result))


# (ln((1 + s) / (1 - s)) - 2 s) / s^3 by powers of s^2 for 0 <= s <= 1/3: minimax, 0.1 units in the last place of ln
_LOG1P_COEFFICIENTS = {
    32: (0.66666416280777098, 0.40021527496035755, 0.2800180160731427, 0.28012002853066683),
    64: (
        0.66666666666666309706, 0.40000000000155118227, 0.28571428548117612547, 0.22222223953672162628,
        0.18181744478193604091, 0.15386548410572438995, 0.13301121153934929253, 0.12104946635396554697,
        0.083449640320451543193, 0.17009770478223769413,
    ),
}  # fmt: skip


def _log1p(x):
    """ln(1 + x) = ln((1 + s) / (1 - s)) = x - s (x - rest) for 0 <= x <= 1 and s = x / (2 + x)."""
    s = x / (x + 2.0)
    rest = s * s * _polynomial(s * s, _LOG1P_COEFFICIENTS[x.bits])
    return (s * -1.0).times_plus(x - rest, x)


# (1/2 - e^(t^2 / 2) Phi(-t)) / t by powers of v = t / (t + 4), Phi the normal distribution: minimax, 0.1 units in the
# last place of Phi(-t) for t < 0.76, then 0.1 of t Phi(-t) + 1
NORMAL_COEFFICIENTS = {
    32: (
        0.39894232213263219, -1.000002193203336, 1.1277304285031694, -0.74490408763790597, 0.19253991752191721,
        0.079221186790846412, -0.055877319315528018,
    ),
    64: (
        0.39894228040143264624, -0.99999999999999457686, 1.1276921621406679519, -0.74461567571073968038,
        0.19169140523033101211, 0.078561655593560114527, -0.046174898580158215063, -0.019592347925827488821,
        0.008975369071578756199, 0.0073344162378658599099, -0.00021760107558839786787, -0.0028845193020541234056,
        0.00021754580980784984949, -0.0013938874550440140137, 0.0022924363064351545369, -0.00083040900248035648581,
    ),
}  # fmt: skip


def _normal_chord(t):
    """P(t / (t + 4)) in e^(t^2 / 2) Phi(-t) = 1/2 - t P(t / (t + 4)), for 0 <= t <= 13."""
    return _polynomial(t / (t + 4.0), NORMAL_COEFFICIENTS[t.bits])


# of sin t and cos t by t^2, up to |t| = pi / 2
_SIN_COEFFICIENTS = {bits: [(-1) ** k / math.factorial(2 * k + 1) for k in range(n)] for bits, n in ((32, 7), (64, 11))}
_COS_COEFFICIENTS = {bits: [(-1) ** k / math.factorial(2 * k) for k in range(n)] for bits, n in ((32, 8), (64, 12))}


def _half_turn(x):
    """sin t and cos t for t = pi (x - n), n the nearest integer to x."""
    t = (x - x.intrinsic("rint")) * math.pi
    square = t * t
    return t * _polynomial(square, _SIN_COEFFICIENTS[x.bits]), _polynomial(square, _COS_COEFFICIENTS[x.bits])


def _sin_of_turns(x):
    """sin 2t = 2 sin t cos t"""
    sin, cos = _half_turn(x)
    return sin * cos * 2.0


def _cos_of_turns(x):
    """cos 2t = 1 - 2 sin^2 t"""
    sin, _ = _half_turn(x)
    return (sin * -2.0).times_plus(sin, 1.0)


def _divide(numerator, constant, x, inverse, low=None):
    """numerator / (constant + x); `inverse` is 1 / (constant + x) to a bit or two.

    What rounding constant + x lost comes back, and `low`, what the rounding of numerator and x, the same, has lost, or
    else what that of the quotient has.
    """
    denominator = x + constant
    lost = x - (denominator - constant)
    quotient = numerator / denominator
    minus = quotient * -1.0
    if low is not None:
        lost, rest = lost + low, low
    else:
        rest = minus.times_plus(denominator, numerator) if FUSED else x.constant(0.0)  # unfused, it is but rounding
    return minus.times_plus(lost, rest).times_plus(inverse, quotient)


def _tanh(x):
    """tanh |x| = -t / (t + 2) with t = e^(-2|x|) - 1 = 2^n (e^r - 1) + (2^n - 1), exact to the last bits near 0."""
    end = -10.0 if x.bits == 32 else -20.0  # tanh is 1 from here on
    y = x.intrinsic("fabs") * -1.0
    y = y.where("<", end, end, y)
    r, rest, n = _reduce(y + y)
    scale = _power_of_two(x, n)
    e, s = r + rest, scale - 1.0
    t = scale.times_plus(e, s)
    low = scale.times_plus(rest - (e - r), scale.times_plus(e, s - t))
    return _divide(t, 2.0, t, t * -0.5 + 0.5, low).intrinsic("copysign", x)


def _logistic(x):
    """1 / (1 + e^-x) for x >= 0, e^x / (1 + e^x) for x < 0: never overflows, keeps denormal results."""
    e = _exp_of_minus(x)
    return _divide(x.where("<", 0.0, e, 1.0), 1.0, e, e * -0.5 + 1.0)


# ---- values of a tile in LLVM -----------------------------------------------------------------------------------


def _vectors(builder, tile, value):
    return [Vector(builder, builder.extract_value(value, i)) for i in range(tile.rows * tile.vecs)]


def _pack(builder, tile, vectors):
    value = ir.Constant(tile.array, ir.Undefined)
    for i, vector in enumerate(vectors):
        value = builder.insert_value(value, vector.value, i)
    return value


def _splat(builder, tile, scalar):
    undefined = ir.Constant(tile.vector, ir.Undefined)
    zeros = ir.Constant(ir.VectorType(INT32, tile.lanes), None)
    first = builder.insert_element(undefined, scalar, INT32(0))
    return Vector(builder, builder.shuffle_vector(first, undefined, zeros))


def _at(builder, memory, offset, kind):
    """Address of memory[offset], as a pointer to this LLVM type."""
    return builder.bitcast(builder.gep(memory, [offset]), kind.as_pointer())


def _load(builder, tile, memory, offset):
    load = builder.load(_at(builder, memory, offset, tile.vector))
    load.align = tile.dtype.bitwidth // 8
    return Vector(builder, load)


def _store(builder, tile, value, memory, offset):
    store = builder.store(value, _at(builder, memory, offset, value.type))
    store.align = tile.dtype.bitwidth // 8


def _offsets(builder, tile, start, stride):
    for r in range(tile.rows):
        row = builder.add(start, builder.mul(stride, INT64(r)))
        for v in range(tile.vecs):
            yield builder.add(row, INT64(v * tile.lanes))


# ---- the processor's state --------------------------------------------------------------------------------------

_TRIPLE = llvm.get_process_triple()
# Bits of the control word that make denormal results and arguments zero, and how it is read and written.
if _TRIPLE.startswith("x86_64"):
    _FLUSH, _CONTROL = 0x8040, ("llvm.x86.sse.stmxcsr", "llvm.x86.sse.ldmxcsr")
elif _TRIPLE.startswith(("aarch64", "arm64")):
    _FLUSH, _CONTROL = 1 << 24, ("llvm.aarch64.get.fpcr", "llvm.aarch64.set.fpcr")
    llvm.initialize_native_asmparser()  # for what `ticks` and `pause` say in assembly: without it LLVM ends the process
else:
    _FLUSH, _CONTROL = 0, None


def _set_control(builder, change):
    """Write what `change` makes of the floating-point control word; return what it was."""
    read, write = _CONTROL
    if "x86" in read:  # through memory
        place = cgutils.alloca_once(builder, INT32)
        arguments = [builder.bitcast(place, ir.IntType(8).as_pointer())]
        function_type = ir.FunctionType(ir.VoidType(), [arguments[0].type])
        read, write = (cgutils.get_or_insert_function(builder.module, function_type, name) for name in _CONTROL)
        builder.call(read, arguments)
        before = builder.load(place)
        builder.store(change(before), place)
        builder.call(write, arguments)
        return builder.zext(before, INT64)
    read = cgutils.get_or_insert_function(builder.module, ir.FunctionType(INT64, []), read)
    write = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), [INT64]), write)
    before = builder.call(read, [])
    builder.call(write, [change(before)])
    return before


@intrinsic
def flush_denormals(typingctx):
    """From now on numbers too small for a full mantissa are 0, in this thread. Returns what `restore` takes back.

    Such numbers cost a hundred times as much, and training makes them: moments that decay, errors that vanish.
    """

    def codegen(context, builder, sig, args):
        if _CONTROL is None:
            return INT64(0)
        return _set_control(builder, lambda word: builder.or_(word, ir.Constant(word.type, _FLUSH)))

    return types.int64(), codegen


@intrinsic
def restore_denormals(typingctx, before):
    """What `flush_denormals` found is in force again."""

    def codegen(context, builder, sig, args):
        if _CONTROL is not None:
            _set_control(builder, lambda word: builder.trunc(args[0], word.type) if word.type != INT64 else args[0])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


# about: x86's clocks run at 2 to 4 GHz, ARM's at 24 MHz to 1 GHz
TICKS_A_SECOND = 2_500_000_000 if _TRIPLE.startswith("x86_64") else 100_000_000


@intrinsic
def ticks(typingctx):
    """A clock that runs evenly, in units of its own; 0 where there is none that can be read without a system call."""

    def codegen(context, builder, sig, args):
        if _TRIPLE.startswith("x86_64"):
            function_type = ir.FunctionType(INT64, [])
            return builder.call(
                cgutils.get_or_insert_function(builder.module, function_type, "llvm.readcyclecounter"), []
            )
        if _TRIPLE.startswith(("aarch64", "arm64")):
            return builder.asm(ir.FunctionType(INT64, []), "mrs $0, cntvct_el0", "=r", [], side_effect=True)
        return INT64(0)

    return types.int64(), codegen


# ---- several threads --------------------------------------------------------------------------------------------


@intrinsic
def atomic_add(typingctx, memory, i, x):
    """memory[i] += x, at once for all threads. Returns the sum."""

    def codegen(context, builder, sig, args):
        memory, i, x = args
        return builder.add(builder.atomic_rmw("add", builder.gep(memory, [i]), x, "acq_rel"), x)

    return types.int64(memory, types.int64, types.int64), codegen


@intrinsic
def atomic_load(typingctx, memory, i):
    """memory[i], and with it all that its writer had written before."""

    def codegen(context, builder, sig, args):
        return builder.load_atomic(builder.gep(args[0], [args[1]]), "acquire", 8)

    return types.int64(memory, types.int64), codegen


@intrinsic
def atomic_replace(typingctx, memory, i, old, new):
    """memory[i] = new if it is `old`, at once for all threads. Returns whether it was."""

    def codegen(context, builder, sig, args):
        memory, i, old, new = args
        result = builder.cmpxchg(builder.gep(memory, [i]), old, new, "acq_rel", "acquire")
        return builder.extract_value(result, 1)

    return types.boolean(memory, types.int64, types.int64, types.int64), codegen


@intrinsic
def pause(typingctx):
    """A few cycles in which this thread leaves the core's units to others."""

    def codegen(context, builder, sig, args):
        nothing = ir.FunctionType(ir.VoidType(), [])
        if _TRIPLE.startswith("x86_64"):
            builder.call(cgutils.get_or_insert_function(builder.module, nothing, "llvm.x86.sse2.pause"), [])
        elif _TRIPLE.startswith(("aarch64", "arm64")):
            builder.asm(nothing, "yield", "", [], side_effect=True)
        return context.get_dummy_value()

    return types.void(), codegen


def _call_c(builder, result, name, arguments):
    """Call a function of C's library, or one of CPython's that needs no lock of it."""
    function_type = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)


@intrinsic
def give_way(typingctx):
    """Let another thread that waits for this core run."""

    def codegen(context, builder, sig, args):
        if os.name == "posix":
            _call_c(builder, INT32, "sched_yield", [])
        return context.get_dummy_value()

    return types.void(), codegen


# the cores that Linux is asked about: if there are more it answers nothing, and where threads wake is left to it
CORES = 1024


def _call_linux(builder, name, arguments):
    """Call a function of Linux's C library that returns an int; -1 elsewhere."""
    return _call_c(builder, INT32, name, arguments) if sys.platform == "linux" else INT32(-1)


@intrinsic
def this_core(typingctx):
    """The number of the core that this thread is on; -1 if that is not known."""
    return types.int32(), lambda context, builder, sig, args: _call_linux(builder, "sched_getcpu", [])


@intrinsic
def get_cores(typingctx, cores):
    """Write down which cores this thread may use, a bit for each; not 0 if that is not known."""

    def codegen(context, builder, sig, args):
        return _call_linux(builder, "sched_getaffinity", [INT32(0), INT64(CORES // 8), args[0]])

    return types.int32(cores), codegen


@intrinsic
def set_cores(typingctx, thread, cores):
    """Have a thread, or with 0 this one, use these cores alone; nothing happens if it can use none of them."""

    def codegen(context, builder, sig, args):
        thread = builder.trunc(args[0], INT32)
        _call_linux(builder, "sched_setaffinity", [thread, INT64(CORES // 8), args[1]])
        return context.get_dummy_value()

    return types.void(types.int64, cores), codegen


@intrinsic
def acquire(typingctx, lock):
    """Sleep until the lock is released: one of CPython's, which has one that sleeps for every system."""

    def codegen(context, builder, sig, args):
        lock = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        _call_c(builder, INT32, "PyThread_acquire_lock", [lock, INT32(1)])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def release(typingctx, lock):
    """Wake the thread that sleeps on the lock, or will."""

    def codegen(context, builder, sig, args):
        lock = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        _call_c(builder, ir.VoidType(), "PyThread_release_lock", [lock])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def call(typingctx, kernel, arguments):
    """Call the kernel at this address with a tuple of arguments; as machine code, pointers are numbers."""

    def codegen(context, builder, sig, args):
        convention, kinds = context.call_conv, tuple(sig.args[1])
        function = builder.inttoptr(args[0], convention.get_function_type(types.void, kinds).as_pointer())
        given = [builder.extract_value(args[1], i) for i in range(len(kinds))]
        convention.call_function(builder, function, types.void, kinds, given)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), codegen


# ---- records ----------------------------------------------------------------------------------------------------

# types of fields, besides int64 and float64: numbers of the network's type; and a cache line of integers, which other
# threads change by `atomic_add` and `atomic_replace`
T, LINE = types.Dummy("T"), types.Dummy("line")
CACHE_LINE = 8


class Record:
    """Fields with names, in 64-bit words: for kernels a type, `record.of(T)`, for Python a NumPy dtype, `record.dtype`.

    A field is a number (int64, float64), memory (`types.CPointer`, of T too), other records, or a LINE.
    """

    def __init__(self, name, fields):
        self.name, self.fields, self.places, self.size = name, fields, {}, 0
        for field, kind in fields.items():
            if kind is LINE:
                self.size += -self.size % CACHE_LINE
            self.places[field] = self.size
            self.size += CACHE_LINE if kind is LINE else 1
        if LINE in fields.values():
            self.size += -self.size % CACHE_LINE
        formats = {LINE: ("i8", (CACHE_LINE,)), types.float64: "f8"}
        self.dtype = np.dtype(
            {
                "names": list(fields),
                "formats": [formats.get(kind, "i8") for kind in fields.values()],
                "offsets": [8 * place for place in self.places.values()],
                "itemsize": 8 * self.size,
            }
        )

    @property
    def has_numbers(self):
        """Whether it leads to numbers of type T."""
        return any(
            kind.has_numbers if isinstance(kind, Record) else kind == types.CPointer(T) for kind in self.fields.values()
        )

    def of(self, dtype=None):
        """The type of such records in kernels for numbers of this type."""
        return RecordType(self, dtype if self.has_numbers else None)


class RecordType(types.Type):
    """Numba's type of a record; its value is where it stands, so that `records[i]` is the i-th of those in a row."""

    def __init__(self, record, dtype):
        self.record, self.dtype = record, dtype
        super().__init__(name=f"{record.name}({dtype})")

    def field(self, name):
        kind = self.record.fields.get(name)
        if isinstance(kind, Record):
            return kind.of(self.dtype)
        if kind is LINE:
            return types.CPointer(types.int64)
        return types.CPointer(self.dtype) if kind == types.CPointer(T) else kind


@register_model(RecordType)
class RecordModel(models.PrimitiveModel):
    def __init__(self, dmm, record):
        super().__init__(dmm, record, INT64.as_pointer())


@infer_getattr
class RecordAttributes(AttributeTemplate):
    key = RecordType

    def generic_resolve(self, record, name):
        return record.field(name)


def _field(builder, record, value, name):
    return builder.gep(value, [INT64(record.record.places[name])])


@lower_getattr_generic(RecordType)
def _get_field(context, builder, record, value, name):
    place, kind = _field(builder, record, value, name), record.field(name)
    if record.record.fields[name] is LINE:
        return place
    llvm_type = context.get_value_type(kind)
    return builder.load(builder.bitcast(place, llvm_type.as_pointer()))


@lower_setattr_generic(RecordType)
def _set_field(context, builder, sig, args, name):
    record, value = sig.args
    place = _field(builder, record, args[0], name)
    builder.store(args[1], builder.bitcast(place, context.get_value_type(value).as_pointer()))


@infer_global(operator.getitem)
class RecordItem(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], RecordType):
            return signature(args[0], args[0], types.int64)


@lower_builtin(operator.getitem, RecordType, types.Integer)
def _get_record(context, builder, sig, args):
    return builder.gep(args[0], [builder.mul(args[1], INT64(sig.args[0].record.size))])


def record_at(record):
    """A function: the record that stands in an array or at an address, for numbers of the type that memory holds."""

    @intrinsic
    def at(typingctx, place, like):
        def codegen(context, builder, sig, args):
            if isinstance(sig.args[0], types.Integer):
                return builder.inttoptr(args[0], INT64.as_pointer())
            return context.make_array(sig.args[0])(context, builder, args[0]).data

        return record.of(getattr(like, "dtype", None))(place, like), codegen

    return at


# ---- memory -----------------------------------------------------------------------------------------------------


@intrinsic
def pointer(typingctx, array):
    """Where the numbers of a contiguous array start; `pointer(x)[i]` reads and writes them."""

    def codegen(context, builder, sig, args):
        return context.make_array(sig.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


@intrinsic
def address(typingctx, array):
    """Where the numbers of a contiguous array start, as an integer."""

    def codegen(context, builder, sig, args):
        return builder.ptrtoint(context.make_array(sig.args[0])(context, builder, args[0]).data, INT64)

    return types.int64(array), codegen


@intrinsic
def address_of(typingctx, memory):
    """Where the memory starts, as an integer."""
    return types.int64(memory), lambda context, builder, sig, args: builder.ptrtoint(args[0], INT64)


@intrinsic
def memory(typingctx, like, address):
    """The memory at an address, of the same numbers as some other."""

    def codegen(context, builder, sig, args):
        return builder.inttoptr(args[1], context.get_value_type(sig.return_type))

    return types.CPointer(like.dtype)(like, types.int64), codegen


@intrinsic
def skip(typingctx, memory, count):
    """The memory from its number `count` on."""
    return memory(memory, types.int64), lambda context, builder, sig, args: builder.gep(args[0], [args[1]])


@intrinsic
def lanes(typingctx, memory):
    """How many of the numbers a vector holds, as a constant of the compiled code."""
    return types.int64(memory), lambda context, builder, sig, args: INT64(VECTOR_BITS // sig.args[0].dtype.bitwidth)


@intrinsic
def eps(typingctx, memory):
    """The distance from 1 to the next number of the type that the memory holds."""
    distance = ir.Constant(ir.DoubleType(), 2.0 ** -_MANTISSA[memory.dtype.bitwidth])
    return types.float64(memory), lambda context, builder, sig, args: distance


@intrinsic
def number(typingctx, memory, x):
    """x as a number of the type that the memory holds."""

    def codegen(context, builder, sig, args):
        return context.cast(builder, args[1], sig.args[1], sig.return_type)

    return memory.dtype(memory, x), codegen


@intrinsic(prefer_literal=True)
def zeros(typingctx, like, rows, vecs):
    """A tile of zeros of the type that the memory holds."""
    tile = TileType(like.dtype, rows.literal_value, vecs.literal_value)
    return tile(like, rows, vecs), lambda context, builder, sig, args: ir.Constant(tile.array, None)


@intrinsic(prefer_literal=True)
def load(typingctx, memory, start, stride, rows, vecs):
    """tile[r, c] = memory[start + r * stride + c]; stride 0 repeats one row."""
    tile = TileType(memory.dtype, rows.literal_value, vecs.literal_value)

    def codegen(context, builder, sig, args):
        memory, start, stride, _, _ = args
        offsets = _offsets(builder, tile, start, stride)
        return _pack(builder, tile, [_load(builder, tile, memory, offset) for offset in offsets])

    return tile(memory, types.int64, types.int64, rows, vecs), codegen


@intrinsic
def store(typingctx, tile, memory, start, stride):
    """memory[start + r * stride + c] = tile[r, c]"""

    def codegen(context, builder, sig, args):
        value, memory, start, stride = args
        for vector, offset in zip(_vectors(builder, tile, value), _offsets(builder, tile, start, stride), strict=True):
            _store(builder, tile, vector.value, memory, offset)
        return context.get_dummy_value()

    return types.void(tile, memory, types.int64, types.int64), codegen


@intrinsic
def prefetch(typingctx, memory, start):
    """Have the cache line of memory[start] brought here. It may be no memory at all: nothing is read."""

    def codegen(context, builder, sig, args):
        place = builder.bitcast(builder.gep(args[0], [args[1]]), ir.IntType(8).as_pointer())
        arguments = [place, INT32(0), INT32(3), INT32(1)]  # to read; to the nearest cache; data
        function_type = ir.FunctionType(ir.VoidType(), [a.type for a in arguments])
        builder.call(cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0i8"), arguments)
        return context.get_dummy_value()

    return types.void(memory, types.int64), codegen


@intrinsic
def store_transposed(typingctx, tile, memory, start, stride):
    """memory[start + c * stride + r] = tile[r, c]

    Rows are taken in groups of at most a vector's lanes, a power of two; log2 of the group rounds of interleaving the
    first half of the vectors with the second leave whole columns in each vector.
    """

    def codegen(context, builder, sig, args):
        value, memory, start, stride = args
        lanes, group = tile.lanes, min(tile.rows, tile.lanes)

        def shuffle(a, b, lane_numbers):
            return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, len(lane_numbers)), lane_numbers))

        halves = range(lanes // 2), range(lanes // 2, lanes)
        interleave = [[x for i in half for x in (i, i + lanes)] for half in halves]
        for first in range(0, tile.rows, group):
            for v in range(tile.vecs):
                rows = [builder.extract_value(value, (first + r) * tile.vecs + v) for r in range(group)]
                for _ in range(group.bit_length() - 1):
                    pairs = zip(rows[: group // 2], rows[group // 2 :], strict=True)
                    rows = [shuffle(a, b, numbers) for a, b in pairs for numbers in interleave]
                for c in range(lanes):
                    each = lanes // group  # whole columns in a vector
                    at = c % each * group
                    column = shuffle(rows[c // each], rows[c // each], list(range(at, at + group)))
                    offset = builder.add(start, builder.mul(stride, INT64(v * lanes + c)))
                    _store(builder, tile, column, memory, builder.add(offset, INT64(first)))
        return context.get_dummy_value()

    return types.void(tile, memory, types.int64, types.int64), codegen


def _column(dtype):
    """The type of a column of a full tile: number r belongs to row r; beyond the ROWS numbers a vector has zeros."""
    return TileType(dtype, 1, max(1, ROWS * dtype.bitwidth // VECTOR_BITS))


def _set_lanes(builder, tile, numbers):
    """A tile of one row with these numbers, then zeros."""
    vectors = [ir.Constant(tile.vector, None)] * tile.vecs
    for r, number in enumerate(numbers):
        vectors[r // tile.lanes] = builder.insert_element(vectors[r // tile.lanes], number, INT32(r % tile.lanes))
    return _pack(builder, tile, [Vector(builder, vector) for vector in vectors])


@intrinsic
def two_columns(typingctx, like):
    """Memory for two columns, until the function returns; each takes as many numbers as its vectors have."""
    column = _column(like.dtype)

    def codegen(context, builder, sig, args):
        place = cgutils.alloca_once(builder, ir.ArrayType(column.vector, 2 * column.vecs))
        return builder.bitcast(place, column.element.as_pointer())

    return types.CPointer(like.dtype)(like), codegen


@intrinsic
def column(typingctx, memory, x):
    """A column of x, of the type that the memory holds."""
    column = _column(memory.dtype)

    def codegen(context, builder, sig, args):
        number = context.cast(builder, args[1], sig.args[1], column.dtype)
        return _set_lanes(builder, column, [number] * ROWS)

    return column(memory, x), codegen


@intrinsic
def load_like(typingctx, column, memory, start):
    """A column like this one, whose numbers stand side by side in memory."""

    def codegen(context, builder, sig, args):
        _, memory, start = args
        offsets = [builder.add(start, INT64(v * column.lanes)) for v in range(column.vecs)]
        return _pack(builder, column, [_load(builder, column, memory, offset) for offset in offsets])

    return column(column, memory, types.int64), codegen


@intrinsic
def load_column(typingctx, memory, start, stride):
    """column[r] = memory[start + r * stride]"""
    column = _column(memory.dtype)

    def codegen(context, builder, sig, args):
        memory, start, stride = args
        places = [builder.add(start, builder.mul(stride, INT64(r))) for r in range(ROWS)]
        return _set_lanes(builder, column, [builder.load(builder.gep(memory, [place])) for place in places])

    return column(memory, types.int64, types.int64), codegen


@intrinsic
def store_column(typingctx, column, memory, start, stride):
    """memory[start + r * stride] = column[r]"""

    def codegen(context, builder, sig, args):
        value, memory, start, stride = args
        vectors = _vectors(builder, column, value)
        for r in range(ROWS):
            number = builder.extract_element(vectors[r // column.lanes].value, INT32(r % column.lanes))
            builder.store(number, builder.gep(memory, [builder.add(start, builder.mul(stride, INT64(r)))]))
        return context.get_dummy_value()

    return types.void(column, memory, types.int64, types.int64), codegen


@intrinsic
def gather(typingctx, memory, stride, offset, order, start, count):
    """column[r] = memory[order[start + r] * stride + offset] for r < count, else 0. Nothing else is read; count > 0."""
    column = _column(memory.dtype)

    def codegen(context, builder, sig, args):
        memory, stride, offset, order, start, count = args
        zero, numbers = ir.Constant(column.element, 0.0), []
        for r in range(ROWS):
            present = builder.icmp_signed("<", INT64(r), count)
            row = builder.add(start, builder.select(present, INT64(r), INT64(0)))
            place = builder.add(builder.mul(builder.load(builder.gep(order, [row])), stride), offset)
            number = builder.load(builder.gep(memory, [place]))
            numbers.append(builder.select(present, number, zero))
        return _set_lanes(builder, column, numbers)

    return column(memory, types.int64, types.int64, order, types.int64, types.int64), codegen


def _mask(builder, comparison, count, lanes):
    """Which lane numbers are `<` or `==` this one."""
    integers = ir.VectorType(INT64, lanes)
    numbers = ir.Constant(integers, list(range(lanes)))
    undefined = ir.Constant(integers, ir.Undefined)
    first = builder.insert_element(undefined, count, INT32(0))
    limit = builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INT32, lanes), None))
    return builder.icmp_signed(comparison, numbers, limit)


def _masked(name, builder, result, vector_type, *arguments):
    bits = 32 if vector_type.element == ir.FloatType() else 64
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(result, [a.type for a in arguments]),
        f"llvm.masked.{name}.v{vector_type.count}f{bits}.p0v{vector_type.count}f{bits}",
    )
    return builder.call(function, arguments)


@intrinsic
def load_part(typingctx, like, memory, start, count):
    """A row of one vector: tile[0, c] = memory[start + c] for c < count, else 0. Nothing else is read.

    The memory may hold float32 or float64; the numbers are converted to what `like` holds.
    """
    tile = TileType(like.dtype, 1, 1)

    def codegen(context, builder, sig, args):
        _, memory, start, count = args
        source = TileType(sig.args[1].dtype, 1, 1).element
        vector = ir.VectorType(source, tile.lanes)
        pointer = _at(builder, memory, start, vector)
        align = INT32(sig.args[1].dtype.bitwidth // 8)
        mask = _mask(builder, "<", count, tile.lanes)
        row = _masked("load", builder, vector, vector, pointer, align, mask, ir.Constant(vector, None))
        if source != tile.element:
            row = (builder.fptrunc if tile.dtype.bitwidth == 32 else builder.fpext)(row, tile.vector)
        return builder.insert_value(ir.Constant(tile.array, ir.Undefined), row, 0)

    return tile(like, memory, types.int64, types.int64), codegen


@intrinsic
def store_part(typingctx, tile, memory, start, count):
    """memory[start + c] = tile[0, c] for c < count. Nothing else is written."""

    def codegen(context, builder, sig, args):
        value, memory, start, count = args
        vector = builder.extract_value(value, 0)
        pointer = _at(builder, memory, start, tile.vector)
        align, mask = INT32(tile.dtype.bitwidth // 8), _mask(builder, "<", count, tile.lanes)
        _masked("store", builder, ir.VoidType(), tile.vector, vector, pointer, align, mask)
        return context.get_dummy_value()

    return types.void(tile, memory, types.int64, types.int64), codegen


# ---- arithmetic -------------------------------------------------------------------------------------------------


@intrinsic
def outer(typingctx, tile, x, x_start, rows, y, y_start):
    """tile[r, c] + x[x_start + r * rows] * y[y_start + c]: one fused multiply-add a number.

    `rows` says how far apart the rows of x are, or where each one is, as `rows_at` makes it: then that is rows[r].
    The numbers of x are converted to the tile's type.
    """
    x_type, apart = x.dtype, isinstance(rows, types.Integer)

    def codegen(context, builder, sig, args):
        value, x, x_start, rows, y, y_start = args
        row = [_load(builder, tile, y, builder.add(y_start, INT64(v * tile.lanes))) for v in range(tile.vecs)]
        for r in range(tile.rows):
            row_start = builder.mul(rows, INT64(r)) if apart else builder.extract_value(rows, r)
            offset = builder.add(x_start, row_start)
            scalar = context.cast(builder, builder.load(builder.gep(x, [offset])), x_type, tile.dtype)
            scalar = _splat(builder, tile, scalar)
            for v in range(tile.vecs):
                i = r * tile.vecs + v
                total = scalar.times_plus(row[v], Vector(builder, builder.extract_value(value, i)))
                value = builder.insert_value(value, total.value, i)
        return value

    return tile(tile, x, types.int64, types.int64 if apart else rows, y, types.int64), codegen


@intrinsic
def rows_at(typingctx, places, first):
    """Where ROWS rows are: places[first + r]."""

    def codegen(context, builder, sig, args):
        value = ir.Constant(ir.ArrayType(INT64, ROWS), ir.Undefined)
        for r in range(ROWS):
            place = builder.load(builder.gep(args[0], [builder.add(args[1], INT64(r))]))
            value = builder.insert_value(value, place, r)
        return value

    return types.UniTuple(types.int64, ROWS)(types.CPointer(types.int64), types.int64), codegen


def _arguments(types_, formula):
    """Signature and code of a function of tiles, number by number; scalars stand for tiles that repeat them."""
    tile = next(t for t in types_ if isinstance(t, TileType))

    def codegen(context, builder, sig, args):
        columns = [
            _vectors(builder, tile, a)
            if isinstance(t, TileType)
            else [_splat(builder, tile, a)] * (tile.rows * tile.vecs)
            for t, a in zip(sig.args, args, strict=True)
        ]
        return _pack(builder, tile, [formula(*vectors) for vectors in zip(*columns, strict=True)])

    return tile(*(t if isinstance(t, TileType) else tile.dtype for t in types_)), codegen


def _operator(function, formula):
    """Teach Numba an operator of tiles (templates compile nothing, where `overload` compiles a wrapper a use)."""

    @infer_global(function)
    class Template(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 2 and any(isinstance(t, TileType) for t in args):
                return signature(*_flatten(_arguments(args, formula)[0]))

    def lower(context, builder, sig, args):
        return _arguments(sig.args, formula)[1](context, builder, sig, args)

    for pattern in (TileType, TileType), (TileType, types.Float), (types.Float, TileType):
        lower_builtin(function, *pattern)(lower)


def _flatten(sig):
    return sig.return_type, *sig.args


_operator(operator.add, lambda x, y: x + y)
_operator(operator.sub, lambda x, y: x - y)
_operator(operator.mul, lambda x, y: x * y)
_operator(operator.truediv, lambda x, y: x / y)


@intrinsic
def maximum(typingctx, x, y):
    """The larger of x and y; a NaN in x stays, one in y does not."""
    return _arguments((x, y), lambda x, y: y.where(">", x, y, x))


@intrinsic
def minimum(typingctx, x, y):
    """The smaller of x and y; a NaN in x stays, one in y does not."""
    return _arguments((x, y), lambda x, y: y.where("<", x, y, x))


@intrinsic
def multiply_add(typingctx, x, y, z):
    """x * y + z, rounded once where the processor can."""
    return _arguments((x, y, z), lambda x, y, z: x.times_plus(y, z))


@intrinsic
def where_nonzero(typingctx, condition, x):
    """x where the condition is not 0 (NaN is not), else 0."""
    return _arguments((condition, x), lambda condition, x: condition.where("!=", 0.0, x, 0.0))


@intrinsic
def where_greater(typingctx, x, y, yes, no):
    """`yes` where x > y (a NaN is not), else `no`."""
    return _arguments((x, y, yes, no), lambda x, y, yes, no: x.where(">", y, yes, no))


@intrinsic
def absolute(typingctx, x):
    """|x|"""
    return _arguments((x,), lambda x: x.intrinsic("fabs"))


@intrinsic
def sqrt(typingctx, x):
    """The square root, correctly rounded."""
    return _arguments((x,), lambda x: x.intrinsic("sqrt"))


@intrinsic
def exp(typingctx, x):
    """e^x within 2 units in the last place."""
    return _arguments((x,), _exp)


@intrinsic
def log(typingctx, x):
    """The natural logarithm within 2 units in the last place."""
    return _arguments((x,), _log)


@intrinsic
def tanh(typingctx, x):
    """The hyperbolic tangent within 2 units in the last place."""
    return _arguments((x,), _tanh)


@intrinsic
def logistic(typingctx, x):
    """1 / (1 + e^-x) within 2 units in the last place."""
    return _arguments((x,), _logistic)


@intrinsic
def exp_of_minus(typingctx, x):
    """e^-|x| within 2 units in the last place."""
    return _arguments((x,), _exp_of_minus)


@intrinsic
def times_exp(typingctx, y, x):
    """y e^x within 2 units in the last place, for |x| <= 87."""
    return _arguments((y, x), _times_exp)


@intrinsic
def expm1_of_minus(typingctx, x):
    """e^-|x| - 1 within 2 units in the last place."""
    return _arguments((x,), _expm1_of_minus)


@intrinsic
def log1p(typingctx, x):
    """ln(1 + x) within 2 units in the last place, for 0 <= x <= 1."""
    return _arguments((x,), _log1p)


@intrinsic
def normal_chord(typingctx, t):
    """P(t), with which 1/2 - t P(t) = e^(t^2 / 2) Phi(-t), Phi the normal distribution, for 0 <= t <= 13."""
    return _arguments((t,), _normal_chord)


@intrinsic
def sin_of_turns(typingctx, x):
    """sin(2 pi x) with an error of at most 4 eps."""
    return _arguments((x,), _sin_of_turns)


@intrinsic
def cos_of_turns(typingctx, x):
    """cos(2 pi x) with an error of at most 6 eps."""
    return _arguments((x,), _cos_of_turns)


@intrinsic
def first_of(typingctx, tile, count):
    """A tile of one vector with 0 in place of its numbers from `count` on."""

    def codegen(context, builder, sig, args):
        vector = builder.extract_value(args[0], 0)
        kept = builder.select(_mask(builder, "<", args[1], tile.lanes), vector, ir.Constant(tile.vector, None))
        return _pack(builder, tile, [Vector(builder, kept)])

    return tile(tile, types.int64), codegen


def _reduction(tile, combine, across_rows):
    """Code that combines all numbers of each row, or of the whole tile, in an order that depends on the shape alone."""

    def everywhere(builder, vectors):
        """In all lanes what is in any lane of the vectors: halves, quarters, ... are exchanged and combined."""
        total, *rest = vectors
        for vector in rest:
            total = combine(total, vector)
        step = tile.lanes // 2
        while step:
            turn = ir.Constant(ir.VectorType(INT32, tile.lanes), [i ^ step for i in range(tile.lanes)])
            total = combine(total, Vector(builder, builder.shuffle_vector(total.value, total.value, turn)))
            step //= 2
        return total

    def codegen(context, builder, sig, args):
        vectors = _vectors(builder, tile, args[0])
        if across_rows:
            return builder.extract_element(everywhere(builder, vectors).value, INT32(0))
        rows = [vectors[r : r + tile.vecs] for r in range(0, len(vectors), tile.vecs)]
        return _pack(builder, tile, [total for row in rows for total in [everywhere(builder, row)] * tile.vecs])

    return (tile.dtype if across_rows else tile)(tile), codegen


@intrinsic
def total(typingctx, tile):
    """The sum of all numbers of a tile."""
    return _reduction(tile, lambda a, b: a + b, across_rows=True)


@intrinsic
def column_sum(typingctx, tile):
    """A tile of one row: the sum of the tile's rows, from the first to the last."""
    row = TileType(tile.dtype, 1, tile.vecs)

    def codegen(context, builder, sig, args):
        vectors = _vectors(builder, tile, args[0])
        return _pack(builder, row, [sum(vectors[v + tile.vecs :: tile.vecs], vectors[v]) for v in range(tile.vecs)])

    return row(tile), codegen


@intrinsic
def row_totals(typingctx, tile):
    """A column: the sum of each row of a tile of ROWS rows, in an order that depends on the shape alone.

    Neighbours are added, those of two rows at a time, until a vector holds but one number of each of its rows.
    """
    column = _column(tile.dtype)

    def codegen(context, builder, sig, args):
        vectors, lanes = _vectors(builder, tile, args[0]), tile.lanes
        rows = [sum(vectors[r + 1 : r + tile.vecs], vectors[r]) for r in range(0, len(vectors), tile.vecs)]
        left = lanes  # numbers of a row
        while left > 1:
            pairs = list(zip(rows[::2], rows[1::2], strict=True)) if len(rows) > 1 else [(rows[0], rows[0])]
            even, odd = (ir.Constant(ir.VectorType(INT32, lanes), list(range(k, 2 * lanes, 2))) for k in (0, 1))
            shuffle, rows = builder.shuffle_vector, [(a.value, b.value) for a, b in pairs]
            rows = [Vector(builder, shuffle(a, b, even)) + Vector(builder, shuffle(a, b, odd)) for a, b in rows]
            left //= 2
        if ROWS < lanes:  # a vector that was its own neighbour holds its sums again and again
            kept = ir.Constant(ir.VectorType(ir.IntType(1), lanes), [r < ROWS for r in range(lanes)])
            rows = [Vector(builder, builder.select(kept, rows[0].value, ir.Constant(tile.vector, None)))]
        return _pack(builder, column, rows)

    return column(tile), codegen


@intrinsic
def row_sum(typingctx, tile):
    """A tile with the sum of each row all along that row."""
    return _reduction(tile, lambda a, b: a + b, across_rows=False)


@intrinsic
def row_max(typingctx, tile):
    """A tile with the largest number of each row all along that row, NaNs left out where others stand."""
    return _reduction(tile, lambda a, b: a.intrinsic("maxnum", b), across_rows=False)


# ---- random numbers ---------------------------------------------------------------------------------------------


def _shifted_xor(builder, x, bits):
    """x ^ (x >> bits), number by number of a vector."""
    return builder.xor(x, builder.lshr(x, ir.Constant(x.type, bits if x.type == INT64 else [bits] * x.type.count)))


@intrinsic
def mixed(typingctx, x):
    """Another number for each number x of 64 bits, all of whose bits depend on all of x's: that of SplitMix64.

    Steele, Lea and Flood: Fast splittable pseudorandom number generators, 2014.
    """

    def codegen(context, builder, sig, args):
        z = builder.add(args[0], ir.Constant(INT64, 0x9E3779B97F4A7C15))
        for bits, factor in (30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB):
            z = builder.mul(_shifted_xor(builder, z, bits), ir.Constant(INT64, factor))
        return _shifted_xor(builder, z, 31)

    return types.int64(types.int64), codegen


@intrinsic
def one_or_none(typingctx, like, key, start, below):
    """A tile of one vector: 0 where the random number of (key, start + lane), of 32 bits, is less than `below`, else 1.

    They are hashes of start + lane and one half of the key by Wellons's "lowbias32" (2018), into which the other half
    goes midway.
    """
    tile = TileType(like.dtype, 1, 1)

    def codegen(context, builder, sig, args):
        _, key, start, below = args
        integers = ir.VectorType(INT32, tile.lanes)

        def splat(x):
            first = builder.insert_element(ir.Constant(integers, ir.Undefined), builder.trunc(x, INT32), INT32(0))
            return builder.shuffle_vector(first, first, ir.Constant(integers, None))

        x = builder.add(splat(start), ir.Constant(integers, list(range(tile.lanes))))
        x = builder.add(builder.mul(x, ir.Constant(integers, [0x9E3779B1] * tile.lanes)), splat(key))
        x = builder.mul(_shifted_xor(builder, x, 16), ir.Constant(integers, [0x7FEB352D] * tile.lanes))
        x = builder.add(_shifted_xor(builder, x, 15), splat(builder.lshr(key, INT64(32))))
        x = builder.mul(x, ir.Constant(integers, [0x846CA68B] * tile.lanes))
        dropped = builder.icmp_unsigned("<", _shifted_xor(builder, x, 16), splat(below))
        one = Vector(builder, ir.Constant(tile.vector, None)).constant(1.0)
        return _pack(builder, tile, [Vector(builder, builder.select(dropped, one.constant(0.0).value, one.value))])

    return tile(like, types.int64, types.int64, types.int64), codegen
