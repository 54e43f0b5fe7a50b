"""cached_backward gives the gradient of the whole batch, whatever is random or stateful in the encoders."""

import collections
import copy

import pytest
import torch
from torch import nn

import jessl_kernels as jk


def encoder(seed: int, *layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), *layers, nn.Linear(16, 4)).double()


def batch(seed: int, rows: int = 23) -> torch.Tensor:
    return torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradients(*modules: nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for module in modules for p in module.parameters()]


LOSSES = {
    "info_nce": lambda a, b: jk.info_nce(a, b, symmetric=True),
    "clip_loss": lambda a, b: jk.clip_loss(a, b, 5.0, normalize=True),
    "nt_xent": jk.nt_xent,
    "dcl": jk.dcl,
    "siglip_loss": lambda a, b: jk.siglip_loss(a, b, 5.0, -5.0, normalize=True),
    "sup_con": lambda a, b: jk.sup_con(torch.stack([a, b], dim=1), torch.arange(len(a)) // 2),
    "kde_entropy": lambda a, b: jk.kde_entropy(a, bandwidth=1.0) + jk.kde_entropy(b, bandwidth="scott"),
    "uniformity": lambda a, b: jk.uniformity(a) + jk.alignment(a, b),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("chunk_size", [1, 5, 23, 100])
def test_two_encoders_receive_the_direct_gradient(name, chunk_size):
    loss, first, second = LOSSES[name], encoder(0), encoder(1)
    direct = loss(first(batch(0)), second(batch(1)))
    direct.backward()
    expected = gradients(first, second)
    for module in (first, second):
        module.zero_grad()
    cached = jk.cached_backward(loss, (first, batch(0)), (second, batch(1)), chunk_size=chunk_size)
    torch.testing.assert_close(cached, direct.detach())
    torch.testing.assert_close(gradients(first, second), expected)


def test_one_encoder_may_stand_in_several_pairs():
    shared = encoder(0)
    jk.nt_xent(shared(batch(0)), shared(batch(1))).backward()
    expected = gradients(shared)
    shared.zero_grad()
    jk.cached_backward(jk.nt_xent, (shared, batch(0)), (shared, batch(1)), chunk_size=7)
    torch.testing.assert_close(gradients(shared), expected)


def test_dropout_draws_the_same_masks_in_both_encodings():
    shared = encoder(0, nn.Dropout(0.5))
    chunks = [part for z in (batch(0), batch(1)) for part in z.split(7)]
    torch.manual_seed(3)
    encoded = torch.cat([shared(part) for part in chunks])
    jk.nt_xent(*encoded.split(23)).backward()
    expected, state = gradients(shared), torch.get_rng_state()
    shared.zero_grad()
    torch.manual_seed(3)
    jk.cached_backward(jk.nt_xent, (shared, batch(0)), (shared, batch(1)), chunk_size=7)
    torch.testing.assert_close(gradients(shared), expected)
    assert torch.equal(torch.get_rng_state(), state), "the generator must end where direct training leaves it"


@pytest.mark.parametrize("call", [lambda module: module, lambda module: module.forward], ids=["module", "method"])
def test_running_statistics_are_updated_once(call):
    first = encoder(0, nn.BatchNorm1d(16))
    twin = copy.deepcopy(first)
    for part in batch(0).split(7):
        twin(part)
    with pytest.warns(UserWarning, match="2 normalises each of 4 chunks by its own mean"):
        jk.cached_backward(lambda z: jk.kde_entropy(z, bandwidth=1.0), (call(first), batch(0)), chunk_size=7)
    torch.testing.assert_close(first[2].running_mean, twin[2].running_mean)
    assert first[2].num_batches_tracked == twin[2].num_batches_tracked


def test_parameters_of_the_loss_receive_their_gradient_and_gradients_accumulate():
    first, criterion = encoder(0), jk.nn.NTXent(learnable=True).double()
    for _ in range(2):
        jk.cached_backward(criterion, (first, batch(0)), (first, batch(1)), chunk_size=7)
    cached = [g / 2 for g in gradients(first, criterion)]
    for module in (first, criterion):
        module.zero_grad()
    criterion(first(batch(0)), first(batch(1))).backward()
    torch.testing.assert_close(cached, gradients(first, criterion))


def test_inputs_may_be_tuples_and_dicts_of_tensors():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = encoder(0)

        def forward(self, left, right):
            return self.inner(left + right)

    module = Sum()
    results = []
    for inputs in ((batch(0), batch(1)), {"left": batch(0), "right": batch(1)}):
        module.zero_grad()
        jk.cached_backward(lambda z: jk.uniformity(z), (module, inputs), chunk_size=6)
        results.append(gradients(module))
    torch.testing.assert_close(results[0], results[1])


def test_batch_norm_that_sees_the_whole_batch_or_is_frozen_is_no_matter():
    for module, size in ((encoder(0, nn.BatchNorm1d(16)), 23), (encoder(0, nn.BatchNorm1d(16)).eval(), 7)):
        twin = copy.deepcopy(module)
        jk.cached_backward(jk.nt_xent, (module, batch(0)), (module, batch(1)), chunk_size=size)
        jk.nt_xent(twin(batch(0)), twin(batch(1))).backward()
        torch.testing.assert_close(gradients(module), gradients(twin))


class Text(nn.Module):
    """Embeds texts by their number of letters, and returns an output like those of transformers' models."""

    def __init__(self, returned):
        super().__init__()
        self.inner, self.returned = encoder(0), returned

    def forward(self, texts, mask=None, *, output_attentions=False, scale=1.0):
        assert mask is None and output_attentions is False
        rows = torch.tensor([[len(text) * k for k in range(8)] for text in texts], dtype=torch.float64)
        return self.returned(self.inner(scale * rows / 8))


RETURNED = {
    "tensor": (lambda z: z, None),
    "dict": (lambda z: {"pooler_output": z, "hidden_states": None}, lambda output: output["pooler_output"]),
    "tuple": (lambda z: (None, z), lambda output: output[1]),
}


@pytest.mark.parametrize("returned", RETURNED)
@pytest.mark.parametrize("inputs", ["list", "mapping", "tuple"])
def test_texts_flags_and_outputs_that_are_no_tensor(inputs, returned):
    texts = ["a" * (1 + k % 9) for k in range(23)]
    make, get = RETURNED[returned]
    model = Text(make)
    loss = jk.uniformity
    direct = model.inner(torch.tensor([[len(t) * k for k in range(8)] for t in texts], dtype=torch.float64) / 8)
    loss(direct).backward()
    expected = gradients(model)
    model.zero_grad()
    given = {
        "list": texts,
        "mapping": collections.UserDict(texts=texts, mask=None, output_attentions=False, scale=torch.tensor(1.0)),
        "tuple": (texts, None),
    }
    jk.cached_backward(loss, (model, given[inputs]), chunk_size=6, get_representation=get)
    torch.testing.assert_close(gradients(model), expected)


def test_each_encoder_may_have_its_own_chunk_size():
    first, second = encoder(0), encoder(1)
    jk.info_nce(first(batch(0)), second(batch(1))).backward()
    expected = gradients(first, second)
    for module in (first, second):
        module.zero_grad()
    jk.cached_backward(jk.info_nce, (first, batch(0)), (second, batch(1)), chunk_size=(4, 11))
    torch.testing.assert_close(gradients(first, second), expected)


def test_a_frozen_encoder_is_a_target_without_gradient():
    student, teacher = encoder(0), encoder(1).requires_grad_(False)
    jk.cached_backward(jk.info_nce, (student, batch(0)), (teacher, batch(1)), chunk_size=6)
    assert student[0].weight.grad is not None
    assert teacher[0].weight.grad is None


def test_backward_can_be_scaled():
    first = encoder(0)
    jk.cached_backward(jk.nt_xent, (first, batch(0)), (first, batch(1)), chunk_size=6)
    once = gradients(first)
    first.zero_grad()
    jk.cached_backward(
        jk.nt_xent,
        (first, batch(0)),
        (first, batch(1)),
        chunk_size=6,
        backward=lambda loss: (8 * loss).backward(),
    )
    torch.testing.assert_close(gradients(first), [8 * g for g in once])
