"""The original prior as a second implementation, in float32 and in the original's half precision."""

import math

import torch
import torch.nn.functional as F


class OriginalUNet:
    """The original network, run by the names in its checkpoint as the specification tells it; knows no converter."""

    def __init__(self, state_dict, config):
        self.weights, self.config = state_dict, config

    def group_norm(self, x, name):
        return F.group_norm(x, 32, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], 1e-5)

    def modulation(self, name):
        return self.linear(F.silu(self.time), f"{name}.emb_layers.1")[:, :, None, None].chunk(2, 1)

    def conv(self, x, name, stride=1):
        weight = self.weights[f"{name}.weight"]
        return F.conv2d(x, weight, self.weights[f"{name}.bias"], stride, weight.shape[-1] // 2)

    def conv1d(self, x, name):
        return F.conv1d(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def linear(self, x, name):
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def residual(self, x, name):
        h = self.conv(F.silu(self.group_norm(x, f"{name}.in_layers.0")), f"{name}.in_layers.2")
        scale, shift = self.modulation(name)
        h = self.group_norm(h, f"{name}.out_layers.0") * (1 + scale) + shift
        h = self.conv(F.silu(h), f"{name}.out_layers.3")
        has_shortcut = f"{name}.skip_connection.weight" in self.weights
        return h + (self.conv(x, f"{name}.skip_connection") if has_shortcut else x)

    def attention(self, x, name):
        channels = self.config["num_head_channels"]
        tokens = self.group_norm(x, f"{name}.norm").flatten(2)
        fused = self.conv1d(tokens, f"{name}.qkv")
        results = []
        for head in fused.split(3 * channels, 1):
            query, key, value = head.chunk(3, 1)
            logits = query.transpose(1, 2) @ key / math.sqrt(channels)
            results.append(value @ self.softmax(logits).transpose(1, 2))
        return x + self.conv1d(torch.cat(results, 1), f"{name}.proj_out").view(x.shape)

    def softmax(self, logits):
        return logits.softmax(-1)

    def block(self, x, name):
        x = self.residual(x, f"{name}.0")
        attends = x.shape[-1] * self.config["image_size"] // self.side in self.config["attention_resolutions"]
        assert attends == (f"{name}.1.qkv.weight" in self.weights)
        return self.attention(x, f"{name}.1") if attends else x

    def __call__(self, x, timesteps):
        self.side = x.shape[-1]
        half = self.config["model_channels"] // 2
        angles = timesteps[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
        self.time = self.linear(torch.cat([angles.cos(), angles.sin()], 1), "time_embed.0")
        self.time = self.linear(F.silu(self.time), "time_embed.2")

        x = self.conv(self.enter(x), "input_blocks.0.0")
        skips = [x]
        while any(key.startswith(f"input_blocks.{len(skips)}.") for key in self.weights):
            name = f"input_blocks.{len(skips)}"
            down = f"{name}.0.op.weight" in self.weights
            x = self.conv(x, f"{name}.0.op", stride=2) if down else self.block(x, name)
            skips.append(x)
        x = self.residual(x, "middle_block.0")
        x = self.residual(self.attention(x, "middle_block.1"), "middle_block.2")
        for index, skip in enumerate(reversed(skips)):
            x = self.block(torch.cat([x, skip], 1), f"output_blocks.{index}")
            for up in (f"output_blocks.{index}.1.conv", f"output_blocks.{index}.2.conv"):
                if f"{up}.weight" in self.weights:
                    x = self.conv(F.interpolate(x, scale_factor=2), up)
        return self.head(x)

    def enter(self, x):
        return x

    def head(self, x):
        return self.conv(F.silu(self.group_norm(x, "out.0")), "out.2")


class HalfOriginalUNet(OriginalUNet):
    """The same with `use_fp16`: convolutions inside the blocks in half, norms, time path, softmax and head not."""

    def conv(self, x, name, stride=1):
        weight, bias = self.weights[f"{name}.weight"].half(), self.weights[f"{name}.bias"].half()
        return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2)

    def conv1d(self, x, name):
        return F.conv1d(x, self.weights[f"{name}.weight"].half(), self.weights[f"{name}.bias"].half())

    def group_norm(self, x, name):
        return super().group_norm(x.float(), name).to(x.dtype)

    def modulation(self, name):
        return [half.half() for half in super().modulation(name)]

    def softmax(self, logits):
        return logits.float().softmax(-1).to(logits.dtype)

    def enter(self, x):
        return x.half()

    def head(self, x):
        x = F.silu(super().group_norm(x.float(), "out.0"))
        return OriginalUNet.conv(self, x, "out.2")
