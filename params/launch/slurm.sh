#!/bin/bash
# SLURM, two nodes that train and one that samples. An example: partition, account and paths are your cluster's.
#
# As a launcher of notebooks 03 to 05 (it waits for the job). They evaluate themselves, so run them from the project's
# folder on a node with one GPU from which sbatch works; what they forecast is for that GPU, and stops nothing:
#     launcher: "sbatch --wait params/launch/slurm.sh"
# By hand, with a file that a notebook wrote:
#     sbatch params/launch/slurm.sh -m vigorl_lib.training outputs/paper_3b/vigorl/seed0/04_grounded_grpo/run.yaml
#
# For GRPO set vllm_url to the third node: here "http://$SERVER:8000" is printed, so that a fixed node name
# (sbatch --nodelist) is the simplest. SFT needs no server: ask for --nodes=2 and it is left out.
#SBATCH --job-name=vigorl
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --exclusive
#SBATCH --time=48:00:00
#SBATCH --output=%x-%j.log
set -euo pipefail

GPUS=8
TRAINERS=2
VENV=${VENV:-.venv}              # the kit, for training
VLLM_VENV=${VLLM_VENV:-.venv-vllm}  # vllm serve; its pins differ from the kit's
MODEL=${MODEL:-Qwen/Qwen2.5-VL-3B-Instruct}  # architecture and processor; the trainer sends the weights

mapfile -t NODES < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
HEAD=${NODES[0]}

if test "${#NODES[@]}" -gt "$TRAINERS"; then
  SERVER=${NODES[$TRAINERS]}
  echo "vLLM on http://$SERVER:8000"
  # What TRL 1.16 asks of the server (its vllm_client.py); same pixel limits as the trainer's max_pixels.
  srun --nodes=1 --ntasks=1 --nodelist="$SERVER" --export=ALL,VLLM_SERVER_DEV_MODE=1 \
    "$VLLM_VENV/bin/vllm" serve "$MODEL" --host 0.0.0.0 --port 8000 --data-parallel-size "$GPUS" \
    --weight-transfer-config '{"backend": "nccl"}' --logprobs-mode processed_logprobs --max-logprobs -1 \
    --limit-mm-per-prompt '{"image": 6, "video": 0}' --mm-processor-kwargs '{"max_pixels": 4194304}' \
    --max-model-len 8192 &  # add --enable-scale-out from vLLM 0.30 on
  trap 'kill %1' EXIT
fi

# One launcher on each training node; it starts a process a card. "$@" is `-m vigorl_lib.training RUN.yaml`.
export HEAD GPUS TRAINERS VENV
srun --nodes="$TRAINERS" --ntasks="$TRAINERS" --nodelist="$(IFS=,; echo "${NODES[*]:0:$TRAINERS}")" bash -c '
  exec "$VENV/bin/accelerate" launch --config_file params/launch/fsdp2.yaml \
    --num_machines "$TRAINERS" --num_processes "$((TRAINERS * GPUS))" --machine_rank "$SLURM_PROCID" \
    --main_process_ip "$HEAD" --main_process_port 29500 --rdzv_backend c10d "$@"' trainer "$@"
