"""Generation: a trained denoiser turns noise into draws, one step rule or one operation a file."""

from numpyro_bridge.generation.base import Noisy, Step
from numpyro_bridge.generation.churn import churned_step
from numpyro_bridge.generation.ddim import ddim_step
from numpyro_bridge.generation.ddpm import ddpm_step
from numpyro_bridge.generation.density import flow_of, log_density
from numpyro_bridge.generation.dpm_solver import dpm_solver_step
from numpyro_bridge.generation.flow_steps import euler_step, heun_step
from numpyro_bridge.generation.generate import even_times, generate, generate_many
from numpyro_bridge.generation.reflow import curvature, reflow_pairs, with_flow_path

__all__ = [
    "Noisy",
    "Step",
    "churned_step",
    "curvature",
    "ddim_step",
    "ddpm_step",
    "dpm_solver_step",
    "euler_step",
    "even_times",
    "flow_of",
    "generate",
    "generate_many",
    "heun_step",
    "log_density",
    "reflow_pairs",
    "with_flow_path",
]
