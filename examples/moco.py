"""MoCo (arXiv 1911.05722): keys come from a slow copy of the encoder, and negatives from a queue of earlier batches.

Batches are small, negatives many: 1,024 keys of the last 32 batches, whose encoder has moved little meanwhile.

    python examples/moco.py
"""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import jessl_kernels as jk


def main(steps: int = 150) -> float:
    """Recall of the other view among 256 after training by batches of 32."""
    torch.manual_seed(0)
    mixing = torch.randn(16, 64)

    def views(count: int) -> tuple[torch.Tensor, ...]:
        return (torch.randn(count, 16) @ mixing + 3.0 * torch.randn(2, count, 64)).unbind()

    encoder, queue = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 16)), jk.nn.Queue(1024, 16)
    slow = AveragedModel(encoder, multi_avg_fn=get_ema_multi_avg_fn(0.95)).requires_grad_(False)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=3e-3)
    for _ in range(steps):
        query, key = (net(view) for net, view in zip((encoder, slow), views(32), strict=True))
        optimizer.zero_grad()
        jk.info_nce(query, key, queue.keys, in_batch=False, temperature=0.2).backward()
        optimizer.step()
        slow.update_parameters(encoder)
        queue.enqueue(key)
    rows = (nn.functional.normalize(encoder(view), dim=1) for view in views(256))
    found = jk.retrieval_metrics(*rows, k=1)["x_to_y/recall@1"].item()
    print(f"the other view is found for {found:.0%} of 256 items")
    return found


if __name__ == "__main__":
    main()
