import pytest

from effxfer.benchmark.measure.op_costs import bytes_moved, is_quantized_kernel, macs
from effxfer.benchmark.measure.profile import Kernel


def kernel(op, inputs, outputs, types=("float",), size=100):
    return Kernel(name="k", op=op, ms=1.0, inputs=inputs, types=types, outputs=outputs, bytes=size)


@pytest.mark.parametrize(
    ("op", "inputs", "output", "weight", "count"),
    [
        ("Conv", ((1, 3, 8, 8), (16, 3, 3, 3), (16,)), (1, 16, 4, 4), (), 16 * 16 * 27),
        ("Conv", ((1, 16, 8, 8), (16, 1, 5, 5)), (1, 16, 8, 8), (), 16 * 64 * 25),
        ("QLinearConv", ((1, 8, 8, 16), (), (), (32,), (32,)), (1, 8, 8, 32), (32, 16, 1, 1), 64 * 32 * 16),
        ("QLinearConv", ((1, 8, 8, 16), ()), (1, 8, 8, 32), (), 0),
        ("ConvTranspose", ((1, 4, 5, 5), (4, 6, 2, 2)), (1, 6, 10, 10), (), 100 * 24),
        ("Gemm", ((2, 40), (10, 40)), (2, 10), (), 800),
        ("Gemm", ((40, 2), (40, 10)), (2, 10), (), 800),
        ("MatMul", ((1, 49, 40),), (1, 49, 160), (), 49 * 40 * 160),
        ("ConvInteger", ((1, 3, 8, 8), (16, 3, 3, 3), (), ()), (1, 16, 4, 4), (), 16 * 16 * 27),
        ("DynamicQuantizeMatMul", ((1, 49, 40), ()), (1, 49, 160), (40, 160), 49 * 40 * 160),
        ("MatMulIntegerToFloat", ((2, 40), (40, 10)), (2, 10), (), 800),
        ("MatMulNBits", ((1, 49, 64), (160, 2, 16)), (1, 49, 160), (), 49 * 64 * 160),
        ("QAttention", ((2, 7, 16), (16, 48), (48,)), (2, 7, 16), (), 2 * 7 * 16 * 48 + 2 * 2 * 7 * 7 * 16),
        ("QGemm", ((1, 512), (), ()), (1, 5), (5, 512), 2560),
        ("Relu", ((1, 8),), (1, 8), (), 0),
    ],
)
def test_multiply_adds(op, inputs, output, weight, count):
    assert macs(kernel(op, inputs, (output,)), weight) == count


def test_packed_weights_are_moved_too():
    packed = kernel("QLinearConv", ((1, 8, 8, 16), ()), ((1, 8, 8, 32),), ("uint8",))
    assert bytes_moved(packed, (32, 16, 1, 1)) == 100 + 512
    assert bytes_moved(kernel("Conv", ((1, 3, 8, 8), (16, 3, 3, 3)), ((1, 16, 4, 4),)), (16, 3, 3, 3)) == 100
    assert bytes_moved(kernel("Relu", ((1, 8),), ((1, 8),))) == 100


@pytest.mark.parametrize(("type_", "size"), [("float", 4), ("int8", 1)])
def test_of_a_table_only_the_rows_that_are_looked_up_are_moved(type_, size):
    table, ids, rows = size * 1000 * 8, 8 * 5, size * 5 * 8
    lookup = kernel("Gather", ((1000, 8), (1, 5)), ((1, 5, 8),), (type_, "int64"), table + ids + rows)
    assert bytes_moved(lookup) == ids + 2 * rows


def test_which_kernels_compute_on_bytes():
    assert is_quantized_kernel(kernel("QLinearConv", ((1,),), ((1,),), ("uint8",)))
    assert not is_quantized_kernel(kernel("DequantizeLinear", ((1,),), ((1,),), ("uint8",)))
    assert not is_quantized_kernel(kernel("Conv", ((1,),), ((1,),)))
