"""Denoisers and flows learned from draws: noise, losses, generation, densities, exact weights."""

from numpyro_bridge.diffusion import noise, weightings
from numpyro_bridge.diffusion.denoiser import (
    Denoiser,
    predicts_clean,
    predicts_flow,
    predicts_noise,
    predicts_velocity,
    untrained_denoiser,
)
from numpyro_bridge.diffusion.density import flow_of, log_density
from numpyro_bridge.diffusion.diffusion_elbo import diffusion_elbo
from numpyro_bridge.diffusion.elbo_by_level import (
    ElboByLevel,
    adapted_schedule,
    elbo_by_level,
    negative_elbo,
)
from numpyro_bridge.diffusion.flow_matching import flow_matching
from numpyro_bridge.diffusion.generation import (
    Noisy,
    Step,
    churned_step,
    ddim_step,
    ddpm_step,
    dpm_solver_step,
    euler_step,
    even_times,
    generate,
    generate_many,
    heun_step,
)
from numpyro_bridge.diffusion.process import DenoisingProcess
from numpyro_bridge.diffusion.reflow import curvature, reflow_pairs, with_flow_path
from numpyro_bridge.diffusion.samples import Samples

__all__ = [
    "Denoiser",
    "DenoisingProcess",
    "ElboByLevel",
    "Noisy",
    "Samples",
    "Step",
    "adapted_schedule",
    "churned_step",
    "curvature",
    "ddim_step",
    "ddpm_step",
    "diffusion_elbo",
    "dpm_solver_step",
    "elbo_by_level",
    "euler_step",
    "even_times",
    "flow_matching",
    "flow_of",
    "generate",
    "generate_many",
    "heun_step",
    "log_density",
    "negative_elbo",
    "noise",
    "predicts_clean",
    "predicts_flow",
    "predicts_noise",
    "predicts_velocity",
    "reflow_pairs",
    "untrained_denoiser",
    "weightings",
    "with_flow_path",
]
