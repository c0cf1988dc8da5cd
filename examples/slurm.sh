#!/usr/bin/env bash
# A Slurm job of one process on each of two nodes: sbatch examples/slurm.sh
#
# JAX reads from Slurm how many processes there are, which one this is, and where the first one
# runs. With several GPUs in a node, let one process have all of them, as here, or one each, with
# --ntasks-per-node and --gpus-per-task.
#SBATCH --job-name=bridge
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=01:00:00
#SBATCH --requeue  # a job that lost a node starts anew, and goes on from the checkpoint
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"

# One lost process ends the whole job, rather than leaving the others to wait for it.
srun --kill-on-bad-exit=1 "${PYTHON:-python}" examples/several_machines.py "$@"
