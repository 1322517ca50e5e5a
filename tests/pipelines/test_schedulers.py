"""Every scheduler that diffusers exports: right on a prior whose answers are known exactly, or refused."""

import copy
import functools
import inspect
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.unets.unet_2d import UNet2DOutput

from difface_diffusers import DifFaceInpaintPipeline, DifFacePipeline
from difface_diffusers.models import DiffusedEstimator
from difface_diffusers.pipelines.chains import Chains, prepare_step_kwargs
from difface_diffusers.pipelines.schedulers import another_scheduler, check_scheduler
from difface_diffusers.utils.choices import SCHEDULERS

from ..conftest import SIZE


ODE = (
    "DDIMScheduler", "DDIMParallelScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler", "PNDMScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
SDE = (
    "DDPMScheduler", "DDPMParallelScheduler", "EulerAncestralDiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
    "SASolverScheduler",
)  # fmt: skip
REFUSED = {
    "CogVideoXDDIMScheduler": "is not known to do so",
    "CogVideoXDPMScheduler": "needs old_pred_original_sample",
    "DDIMInverseScheduler": "lacks add_noise",
    "DPMSolverMultistepInverseScheduler": "walks from the clean face to noise",
    "LCMScheduler": "distilled",
    "RePaintScheduler": "needs original_image",
    "TCDScheduler": "distilled",
    "UnCLIPScheduler": "lacks order",
}
WITHOUT_ALPHAS = (
    "AmusedScheduler", "BlockRefinementScheduler", "CMStochasticIterativeScheduler", "CosineDPMSolverMultistepScheduler",
    "DDPMWuerstchenScheduler", "DPMSolverSDEScheduler", "DiscreteDDIMScheduler", "EDMDPMSolverMultistepScheduler",
    "EDMEulerScheduler", "EntropyBoundScheduler", "FlowMapEulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler", "HeliosDMDScheduler", "HeliosScheduler",
    "IPNDMScheduler", "KarrasVeScheduler", "LTXEulerAncestralRFScheduler", "MiniMaxH3Scheduler", "PiflowScheduler",
    "RFD4ProteinaScheduler", "SCMScheduler", "ScoreSdeVeScheduler", "VQDiffusionScheduler",
)  # fmt: skip
SPACINGS = ("leading", "linspace", "trailing")
LEVELS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")
BETAS = {"beta_start": 1e-4, "beta_end": 0.02}
ALPHAS = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
SPREAD = 0.2  # of the faces, on [-1,1]


def make(name, **options):
    return getattr(diffusers, name)(**BETAS, **options)


make_once = functools.cache(make)  # some lay out all of their timesteps when they are made


def spaced(name, **options):
    """A scheduler with options that it reads when timesteps are set."""
    scheduler = copy.deepcopy(make_once(name))
    scheduler.register_to_config(**options)
    return scheduler


def accepts(name, option):
    return option in inspect.signature(getattr(diffusers, name).__init__).parameters


def alphas_at(timestep):
    below = timestep.floor().long()
    return ALPHAS[below].logit().lerp(ALPHAS[(below + 1).clamp(max=999)].logit(), timestep - below).sigmoid()


class GaussianPrior(UNet2DModel):
    """Answers the exact noise where clean faces are draws from a normal distribution around gray."""

    def forward(self, sample, timestep):
        alphas = alphas_at(torch.as_tensor(timestep).double()).view(-1, 1, 1, 1)
        return UNet2DOutput((sample * (1 - alphas).sqrt() / (alphas * SPREAD**2 + 1 - alphas)).float())


class Echo(DiffusedEstimator):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, image):
        return image


def gaussian_pipeline(scheduler):
    unet = GaussianPrior(
        sample_size=SIZE,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
    )
    pipe = DifFacePipeline(unet, Echo(), scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def restore():
    """Runs a chain; returns its timesteps, x_N as it went into the first call, and x_0."""
    clean = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5)) * SPREAD

    def restore(scheduler, steps, start):
        pipe = gaussian_pipeline(scheduler)
        timesteps, seen = [], []

        def look(module, inputs):
            timesteps.append(float(inputs[1][0]))
            seen.append(inputs[0])

        hook = pipe.unet.register_forward_pre_hook(look)
        answer = pipe(
            clean / 2 + 0.5,
            num_inference_steps=steps,
            start_timestep=start,
            eta=0.0,
            generator=[torch.Generator().manual_seed(seed) for seed in (0, 1)],
            output_type="latent",
        )
        hook.remove()
        return timesteps, seen[0], answer.images

    restore.clean = clean
    restore.noise = torch.cat(
        [torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    )
    return restore


def share_of_noise(state, restore):
    """Return 1 - alpha of a state of the chain, from what it consists of."""
    sources = torch.stack([restore.clean.flatten(), restore.noise.flatten()]).double()
    parts = torch.linalg.solve(sources @ sources.T, sources @ state.double().flatten())
    return float(parts[1] ** 2 / parts.square().sum())


def exact(state):
    """Return the end of the probability flow (Song et al. 2021, eq. 13) from x_N, as the network sees it."""
    return state / state.std() * SPREAD


COMBINATIONS = [
    (name, {**({"timestep_spacing": spacing} if spacing else {}), **({levels: True} if levels else {})})
    for name in (*ODE, *SDE)
    for spacing in (SPACINGS if accepts(name, "timestep_spacing") else [None])
    for levels in (None, *(levels for levels in LEVELS if accepts(name, levels)))
]


@pytest.mark.parametrize(("name", "options"), COMBINATIONS, ids=str)
def test_n_is_kept_and_the_answer_is_right(restore, name, options):
    steps, start = 41, 400
    timesteps, state, answer = restore(spaced(name, **options), steps, start)
    step = max(timesteps[0] - next(value for value in timesteps if value < timesteps[0]), start / (steps - 9))
    assert abs(timesteps[0] - start) <= step + 0.5
    alphas = 1 - share_of_noise(state, restore)
    nearest = int((ALPHAS - alphas).abs().argmin())
    assert abs(nearest - start) <= step + 0.5
    assert len(timesteps) == steps
    spread = (answer.std() / SPREAD).item()
    if name in ODE:
        assert ((answer - exact(state)).abs().mean() / SPREAD).item() < 0.08
        assert spread == pytest.approx(1, abs=0.08)
    else:
        assert spread == pytest.approx(1, abs=0.15)
        assert abs(torch.corrcoef(torch.stack([answer.flatten(), restore.noise.flatten()]))[0, 1]) < 0.4


@pytest.mark.parametrize(("steps", "start"), [(1, 400), (7, 250), (150, 400), (201, 400), (400, 400), (100, 1000)])
@pytest.mark.parametrize("name", [*ODE, *SDE])
def test_n_is_kept_whatever_the_number_of_steps(restore, name, steps, start):
    step = -(-start // max(steps - 1, 1))
    for spacing in SPACINGS:
        options = {"timestep_spacing": spacing} if accepts(name, "timestep_spacing") else {}
        options |= {"skip_prk_steps": True} if name == "PNDMScheduler" else {}
        chains = Chains(spaced(name, **options), [start, start], steps, "cpu")
        generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        state = chains.scale_model_input(chains.noise(restore.clean / 2 + 0.5, generators, 1.0), 0)
        assert min(start, 999) - step <= chains.timesteps[0] <= start
        assert len(chains.timesteps.unique()) >= len(chains.timesteps) // 2
        nearest = int((ALPHAS - 1 + share_of_noise(state, restore)).abs().argmin())
        assert abs(nearest - min(start, 999)) <= step + 1


OPTIONS = [
    ("DPMSolverMultistepScheduler", {"solver_order": 1}),
    ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    ("DPMSolverMultistepScheduler", {"solver_type": "heun"}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min"}),
    ("DPMSolverMultistepScheduler", {"lower_order_final": False}),
    ("DPMSolverMultistepScheduler", {"euler_at_final": True}),
    ("DPMSolverMultistepScheduler", {"lambda_min_clipped": -1.0, "use_karras_sigmas": True}),
    ("DPMSolverMultistepScheduler", {"rescale_betas_zero_snr": True}),
    ("DPMSolverMultistepScheduler", {"thresholding": True}),
    ("DPMSolverSinglestepScheduler", {"solver_order": 3}),
    ("DPMSolverSinglestepScheduler", {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}),
    ("DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ("DEISMultistepScheduler", {"solver_order": 3}),
    ("UniPCMultistepScheduler", {"solver_order": 3}),
    ("UniPCMultistepScheduler", {"final_sigmas_type": "sigma_min", "solver_type": "bh1"}),
    ("UniPCMultistepScheduler", {"final_sigmas_type": "sigma_min", "predict_x0": False}),
    ("UniPCMultistepScheduler", {"final_sigmas_type": "sigma_min", "lower_order_final": False}),
    ("SASolverScheduler", {"predictor_order": 3, "corrector_order": 3}),
    ("SASolverScheduler", {"algorithm_type": "noise_prediction"}),
    ("EulerDiscreteScheduler", {"final_sigmas_type": "sigma_min"}),
    ("EulerDiscreteScheduler", {"rescale_betas_zero_snr": True}),
    ("DDIMScheduler", {"set_alpha_to_one": False, "steps_offset": 1}),
    ("DDIMScheduler", {"rescale_betas_zero_snr": True}),
    ("DDPMScheduler", {"variance_type": "fixed_large"}),
    ("DDPMScheduler", {"variance_type": "fixed_small_log", "steps_offset": 1}),
    ("PNDMScheduler", {"skip_prk_steps": True, "timestep_spacing": "trailing"}),
    ("PNDMScheduler", {"set_alpha_to_one": True, "steps_offset": 1}),
    ("HeunDiscreteScheduler", {"clip_sample": True}),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_options_that_are_right(restore, name, options):
    timesteps, _, answer = restore(make(name, **options), 51, 400)
    assert abs(timesteps[0] - 400) <= 400 / 50
    assert (answer.std() / SPREAD).item() == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("DDIMScheduler", {"prediction_type": "v_prediction"}, "`prediction_type` 'v_prediction'"),
        ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True}, "flow matching"),
        ("UniPCMultistepScheduler", {"use_flow_sigmas": True}, "flow matching"),
        ("DEISMultistepScheduler", {"use_flow_sigmas": True}, "flow matching"),
        ("SASolverScheduler", {"use_flow_sigmas": True}, "flow matching"),
        ("DPMSolverMultistepScheduler", {"use_dynamic_shifting": True}, "`use_dynamic_shifting` True"),
        ("EulerDiscreteScheduler", {"interpolation_type": "log_linear"}, "timesteps then do not belong"),
        ("EulerDiscreteScheduler", {"timestep_type": "continuous"}, "`timestep_type` 'continuous'"),
        ("EulerDiscreteScheduler", {"sigma_max": 5.0}, "begins at `start_timestep`"),
        ("UniPCMultistepScheduler", {"sigma_min": 0.1}, "ends at the clean face"),
        ("UniPCMultistepScheduler", {"predict_x0": False}, "would go with `final_sigmas_type` 'sigma_min'"),
        ("UniPCMultistepScheduler", {"solver_type": "bh1"}, "would go with `final_sigmas_type` 'sigma_min'"),
        ("UniPCMultistepScheduler", {"lower_order_final": False}, "would go with `final_sigmas_type` 'sigma_min'"),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}, "`solver_order` 2"),
        ("DDPMParallelScheduler", {"variance_type": "fixed_large_log"}, "would go with `variance_type` 'fixed_large'"),
        ("DDPMParallelScheduler", {"variance_type": "learned_range"}, "3 output channels; 6 are needed"),
        ("SASolverScheduler", {"lambda_min_clipped": 0.0}, r"begins at \d+\. Start there"),
        ("DEISMultistepScheduler", {}, "no 1000 distinct timesteps"),
    ],
    ids=str,
)
def test_options_that_are_refused(restore, name, options, reason):
    steps, start = (1000, 1000) if not options else (20, 400)
    with pytest.raises(ValueError, match=rf"`.*{reason}"):
        restore(make(name, **options), steps, start)


@pytest.mark.parametrize("start", [999, 1000])
@pytest.mark.parametrize(
    "name", ["DDIMScheduler", "DDPMScheduler", "EulerDiscreteScheduler", "UniPCMultistepScheduler"]
)
def test_no_chain_begins_where_nothing_but_noise_is_left(restore, name, start):
    with pytest.raises(ValueError, match=r"`start_timestep` is .* Start at 998 or lower"):
        restore(make(name, rescale_betas_zero_snr=True), 20, start)


def exported():
    return [name for name in dir(diffusers) if name.endswith("Scheduler")]


def test_every_exported_scheduler_is_known():
    assert set(exported()) == {*ODE, *SDE, *REFUSED, *WITHOUT_ALPHAS}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    with pytest.raises(ValueError, match=rf"`scheduler` is a {name}, .* cannot start in the middle .*{REFUSED[name]}"):
        check_scheduler(getattr(diffusers, name)())


@pytest.mark.parametrize("name", WITHOUT_ALPHAS)
def test_without_alphas(name):
    """Whatever the arguments: nothing that an instance could have is looked at but its class."""
    scheduler = object.__new__(type(name, (), {"step": lambda self, model_output, timestep, sample: None}))
    with pytest.raises(ValueError, match=rf"`scheduler` is a {name}, which cannot start in the middle"):
        check_scheduler(scheduler)


def test_a_subclass_is_what_it_derives_from(restore):
    class Own(diffusers.DPMSolverMultistepScheduler):
        pass

    own = restore(Own(**BETAS), 10, 400)[2]
    torch.testing.assert_close(own, restore(make("DPMSolverMultistepScheduler"), 10, 400)[2])


@pytest.mark.parametrize("name", [*ODE, *SDE])
def test_only_ddim_gets_an_eta(restore, name, monkeypatch):
    given = []
    step = getattr(diffusers, name).step

    @functools.wraps(step)
    def recorded(self, *state, **options):
        given.append(options)
        return step(self, *state, **options)

    monkeypatch.setattr(getattr(diffusers, name), "step", recorded)
    restore(spaced(name), 20, 400)
    assert all(("eta" in options) == (name in ("DDIMScheduler", "DDIMParallelScheduler")) for options in given)


def test_an_eta_of_another_meaning_is_left_alone():
    kinds = [getattr(diffusers, name) for name in exported()]
    taking = [kind for kind in kinds if "step" in vars(kind) and "eta" in inspect.signature(kind.step).parameters]
    given = {kind.__name__ for kind in taking if "eta" in prepare_step_kwargs(object.__new__(kind), 0.5, None)}
    assert diffusers.TCDScheduler in taking
    assert given == {"DDIMScheduler", "DDIMParallelScheduler"}


def test_the_docs_say_what_becomes_of_each():
    text = (Path(__file__).parents[2] / "docs/schedulers.md").read_text()
    rows = {line.split("`")[1]: line.split("|")[2].strip() for line in text.splitlines() if line.startswith("| `")}
    assert set(rows) == {*ODE, *SDE, *REFUSED, *WITHOUT_ALPHAS}
    assert all((verdict == "refused") == (name not in (*ODE, *SDE)) for name, verdict in rows.items())


FRACTIONAL = [
    (name, {levels: True} if levels else {})
    for name, levels in (
        ("EulerDiscreteScheduler", "use_karras_sigmas"),
        ("EulerDiscreteScheduler", "use_exponential_sigmas"),
        ("HeunDiscreteScheduler", "use_beta_sigmas"),
        ("LMSDiscreteScheduler", "use_karras_sigmas"),
        ("KDPM2DiscreteScheduler", None),
        ("KDPM2AncestralDiscreteScheduler", "use_exponential_sigmas"),
    )
]


@pytest.mark.parametrize(("name", "options"), [*FRACTIONAL, ("DDIMScheduler", {})], ids=str)
def test_the_preview_is_what_the_exact_noise_implies(restore, name, options):
    """Between two timesteps too: the mean of the clean faces that the network's input may come from."""
    pipe, seen, timesteps = gaussian_pipeline(make(name, **options)), [], []
    pipe.unet.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))

    def callback(pipe, step, timestep, tensors):
        scaled, timestep = seen[-1]
        alphas = alphas_at(timestep.double()).view(-1, 1, 1, 1)
        expected = alphas.sqrt() * SPREAD**2 * scaled / (alphas * SPREAD**2 + 1 - alphas)
        torch.testing.assert_close(tensors["pred_original_sample"], expected.clamp(-1, 1).float(), rtol=0, atol=1e-4)
        timesteps.append(float(timestep[0]))
        return {}

    pipe(restore.clean / 2 + 0.5, num_inference_steps=31, start_timestep=300, eta=0.0, callback_on_step_end=callback,
         callback_on_step_end_tensor_inputs=["pred_original_sample"])  # fmt: skip
    assert len(timesteps) == 31 and any(timestep % 1 for timestep in timesteps) == ("DDIM" not in name)


class EchoHoles(Echo):
    def forward(self, image, mask):
        return image


@pytest.mark.parametrize(("name", "options"), FRACTIONAL, ids=str)
def test_the_guide_knows_timesteps_between_two(restore, name, options):
    scheduler = make(name, **options)
    pipe = DifFaceInpaintPipeline(gaussian_pipeline(scheduler).unet, EchoHoles(), scheduler)
    pipe.set_progress_bar_config(disable=True)
    mask = torch.zeros(SIZE, SIZE)
    mask[4:20, 10:30] = 1
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    answer = pipe(restore.clean / 2 + 0.5, mask, num_inference_steps=30, start_timestep=300, generator=generators,
                  output_type="latent").images  # fmt: skip
    torch.testing.assert_close(answer[..., mask == 0], restore.clean[..., mask == 0], rtol=0, atol=2e-3)
    assert (answer[..., mask == 1].std() / SPREAD).item() == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("options", [{}, {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"}])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_of_another_kind_has_no_solver_of_the_first(name, options):
    first = make("DPMSolverMultistepScheduler", timestep_spacing="trailing", **options)
    other = another_scheduler(first, name)
    check_scheduler(other)
    assert type(other).__name__ == SCHEDULERS[name] and other.config.timestep_spacing == "trailing"
    wanted = first if name == "dpm-multistep" else make_once(SCHEDULERS[name])
    assert other.config.get("algorithm_type") == wanted.config.get("algorithm_type")
