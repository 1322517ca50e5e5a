"""Sources of noise, one for each picture."""

import torch


def split_generator(generator: torch.Generator, count: int) -> list[torch.Generator]:
    """Make one generator into one per image, so that a picture does not depend on how many others are drawn with it.

    The first image reads `generator` itself; the others read generators that are seeded from a copy of its stream.
    """
    seeder = torch.Generator(generator.device)
    seeder.set_state(generator.get_state())
    seeds = torch.randint(2**63 - 1, (count - 1,), generator=seeder, device=generator.device).tolist()
    return [generator, *(torch.Generator(generator.device).manual_seed(seed) for seed in seeds)]


def one_for_each(
    generator: torch.Generator | list[torch.Generator] | None, count: int
) -> list[torch.Generator] | None:
    """Return a source of noise for each of `count` images; `None` stays torch's global stream for all."""
    return split_generator(generator, count) if isinstance(generator, torch.Generator) else generator


def check_generator_type(generator: object) -> None:
    """Raise `TypeError` unless it is a generator, a list of them or `None`."""
    generators = generator if isinstance(generator, list) else [] if generator is None else [generator]
    if not all(isinstance(entry, torch.Generator) for entry in generators):
        raise TypeError(f"`generator` is {generator!r}; it must be a torch.Generator or a list of them.")
