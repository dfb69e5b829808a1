import pytest
import torch

from effxfer.net.text.token_pooling import TOKEN_POOLS, first_token, mean_of_tokens, padding_bias


def test_the_mean_is_over_real_tokens():
    tokens = torch.tensor([[[2.0], [4.0], [90.0]], [[1.0], [2.0], [6.0]]])
    real = torch.tensor([[True, True, False], [True, True, True]])
    assert mean_of_tokens(tokens, real).tolist() == [[3.0], [3.0]]


def test_a_text_of_padding_alone_has_a_mean_of_zeros():
    assert mean_of_tokens(torch.ones(1, 3, 2), torch.zeros(1, 3, dtype=torch.bool)).tolist() == [[0.0, 0.0]]


def test_the_first_token_is_taken_as_it_is():
    tokens = torch.arange(12.0).view(2, 3, 2)
    assert first_token(tokens, torch.ones(2, 3, dtype=torch.bool)).tolist() == [[0.0, 1.0], [6.0, 7.0]]
    assert TOKEN_POOLS.keys() == {"first", "last", "mean"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_bias_of_padding_leaves_it_no_weight_in_any_precision(dtype):
    bias = padding_bias(torch.tensor([[True, False, True]]), dtype)
    assert bias.shape == (1, 1, 1, 3)
    assert bias.isfinite().all()
    weights = (bias + torch.tensor([-50.0, 50.0, 50.0], dtype=dtype)).softmax(-1)
    assert weights[0, 0, 0, 1] == 0
