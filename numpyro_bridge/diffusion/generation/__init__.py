"""Generation: step rules by which a trained denoiser turns noise into draws, one a file."""

from numpyro_bridge.diffusion.generation.base import Noisy, Step
from numpyro_bridge.diffusion.generation.churn import churned_step
from numpyro_bridge.diffusion.generation.ddim import ddim_step
from numpyro_bridge.diffusion.generation.ddpm import ddpm_step
from numpyro_bridge.diffusion.generation.dpm_solver import dpm_solver_step
from numpyro_bridge.diffusion.generation.flow_steps import euler_step, heun_step
from numpyro_bridge.diffusion.generation.generate import even_times, generate, generate_many

__all__ = [
    "Noisy",
    "Step",
    "churned_step",
    "ddim_step",
    "ddpm_step",
    "dpm_solver_step",
    "euler_step",
    "even_times",
    "generate",
    "generate_many",
    "heun_step",
]
