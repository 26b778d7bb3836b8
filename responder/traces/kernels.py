"""Which kind of work is a kernel, copy or operator? One table, read from top to bottom; the first match wins.

The order matters and each line says what it must come before. Names are GPU kernels, CPU operators and Ascend
operators alike; `classify` is called once per distinct name, never per event.
"""

from __future__ import annotations

import re
from functools import lru_cache

COLLECTIVE, ATTENTION, KV_CACHE, GEMM, MOE, MAMBA = "collective", "attention", "kv_cache", "gemm", "moe", "mamba"
NORM, ROPE, QUANT, SAMPLING, BOOKKEEPING = "norm_activation", "rope", "quantization", "sampling", "bookkeeping"
ELEMENTWISE, EMBEDDING, OTHER = "elementwise", "embedding", "other"
H2D, D2H, D2D, MEMSET = "memcpy_h2d", "memcpy_d2h", "memcpy_d2d", "memset"

CATEGORIES: dict[str, str] = {
    ATTENTION: "Attention",
    KV_CACHE: "KV-cache writes and copies",
    GEMM: "Matrix multiplication",
    MOE: "Mixture of experts",
    MAMBA: "Mamba and other state-space or linear attention",
    NORM: "Normalisation and activation",
    ROPE: "Rotary embedding",
    QUANT: "Quantisation",
    SAMPLING: "Sampling",
    EMBEDDING: "Embedding and gather",
    ELEMENTWISE: "Element-wise, copies within kernels",
    BOOKKEEPING: "Batch bookkeeping",
    COLLECTIVE: "Collective",
    H2D: "Copy host to device",
    D2H: "Copy device to host",
    D2D: "Copy device to device",
    MEMSET: "Memset",
    OTHER: "Unknown",
}
"""Every category and its name for people, in the order tables show them."""

MEMORY = frozenset((H2D, D2H, D2D, MEMSET))

TABLE: tuple[tuple[str, tuple[str, ...]], ...] = (
    # copies have fixed names in CUPTI, HIP, nsys and Ascend
    (H2D, ("^Memcpy HtoD", "^Memcpy HtoA", "^[CUDA memcpy Host-to-D", "^[CUDA memcpy HtoD", "CopyHostToDevice",
           "^MEMCPY_HTOD", "memcpy_h2d")),
    (D2H, ("^Memcpy DtoH", "^Memcpy AtoH", "^[CUDA memcpy Device-to-H", "^[CUDA memcpy DtoH", "CopyDeviceToHost",
           "^MEMCPY_DTOH", "memcpy_d2h")),
    (D2D, ("^Memcpy", "^[CUDA memcpy", "CopyDeviceToDevice", "^MEMCPY_DTOD", "^MEMCPY_PTOP", "^MEMCPY_ASYNC",
           "memcpy_d2d")),
    (MEMSET, ("^Memset", "^[CUDA memset", "^FillBuffer", "^void FillBuffer")),
    # a fused Triton kernel's name lists every operation it swallowed (mul_silu_slice): the telling one wins
    (NORM, ("^triton_red_fused*norm", "^triton_per_fused*norm", "^triton_poi_fused*silu", "^triton_poi_fused*gelu",
            "^triton_*norm", "^triton_*silu", "^triton_*swiglu")),
    # collectives before everything that names an operation in passing: all-reduce fused with a norm is a collective
    # for our purpose, its time includes waiting for the other ranks
    (COLLECTIVE, ("nccl", "rccl", "hccl", "hcom_", "cross_device_reduce", "multimem_", "allreduce", "all_reduce",
                  "two_shot", "one_shot_all", "allgather", "all_gather", "reducescatter", "reduce_scatter",
                  "alltoall", "all_to_all", "quickreduce", "nvshmem", "deep_ep", "c10d::", "record_param_comms",
                  "gloo", "^AllGather", "^AllReduce", "^ReduceScatter", "^AlltoAll", "MC2", "DispatchFFN")),
    # the cache writes are called ..._flash, so before attention
    (KV_CACHE, ("reshape_and_cache", "concat_and_cache", "gather_cache", "gather_and_maybe", "copy_blocks",
                "swap_blocks", "kv_cache", "kvcache", "ReshapeAndCache", "KvCache", "PagedCacheLoad", "cp_gather",
                "indexer_k_quant_and_cache", "ScatterNdUpdate", "scatter_pa")),
    # state-space kernels before attention: some are called linear attention
    (MAMBA, ("mamba", "selective_scan", "selective_state", "_ssd_", "_state_passing", "chunk_scan", "chunk_state",
             "causal_conv1d", "gated_delta", "linear_attn", "lightning_attn", "gdn_", "kda_", "chunk_fwd",
             "chunk_gla", "fused_recurrent", "rwkv", "bmm_chunk")),
    # mixture of experts before gemm (grouped gemms carry both names) and before sampling (routing is a top-k)
    (MOE, ("moe", "MoE", "Moe", "expert", "Expert", "topkGating", "topk_gating", "grouped_topk", "topk_softmax",
           "topk_sigmoid", "GroupedMatmul", "grouped_gemm", "group_gemm", "GroupedGemm", "GroupProblemShape",
           "ep_scatter", "ep_gather", "silu_mul_masked", "permute_kernel", "routingMain", "routingCustom",
           "trtllm::*routing")),
    # attention before gemm: cutlass::device_kernel<flash::...> and cudnn's sdpa kernels are attention
    (ATTENTION, ("flash::", "_vllm_fa", "flash_attn", "flashattn", "flash_attention", "flashattention", "flash_fwd",
                 "flashinfer", "FlashAttn", "FlashAttention", "flash_mla", "fmha", "sdpa", "paged_attention",
                 "paged_attn", "PagedAttention", "unified_attention", "kernel_unified_att", "mha_fwd", "MlaDecode",
                 "BatchDecode", "BatchPrefill", "PrefillWithKV", "DecodeWithKV", "merge_attn_states", "MergeState",
                 "attn_fwd", "decode_att", "scaled_dot_product", "attention", "FusedInferAttention", "PromptFlash",
                 "IncreFlash", "RingAttention", "xqa_", "mla::", "sparse_attn", "_fwd_kernel_stage",
                 "_fwd_grouped_kernel", "prepare_varlen_num_blocks", "merge_attn", "mqa_logits")),
    # quantised gemms before quantisation
    (GEMM, ("marlin", "Marlin", "machete", "gptq", "awq", "exllama", "wvSplitK", "bitblas", "scaled_mm", "w8a8",
            "w4a16", "wna16", "QuantBatchMatmul", "gemm", "Gemm", "GEMM", "gemv", "cutlass", "nvjet", "cublas",
            "splitK", "matmul", "MatMul", "Matmul", "xmma", "Cijk_", "tensorop", "wgmma", "^aten::addmm", "^aten::mm",
            "^aten::bmm", "^aten::baddbmm", "^aten::linear", "int4pack_mm", "mkldnn", "dnnl", "onednn", "lora_shrink",
            "lora_expand", "bgmv", "sgmv", "^dot_kernel", "^Conv1D", "^Conv2D", "^Conv3D", "convolution")),
    (QUANT, ("quant", "Quant", "fp8_cast", "fp8_convert", "cvt_fp", "to_fp8", "cast_to_fp4", "scale_swizzle")),
    # sampling before normalisation (softmax over logits) and element-wise (sort, argmax, exponential)
    (SAMPLING, ("sampl", "gumbel", "topk", "top_k", "TopK", "topp", "top_p", "argmax", "ArgMax", "multinomial",
                "exponential", "RadixSort", "radix", "bitonic", "sort", "penalt", "logit", "SoftMax", "Softmax",
                "softmax", "logprob", "rejection", "distribution_elementwise", "scan_innermost", "cumsum", "eagle",
                "spec_decode", "grammar", "bitmask", "uniform_and_transform")),
    (ROPE, ("rotary", "Rotary", "rope", "Rope", "RoPE")),
    (NORM, ("norm", "Norm", "silu", "Silu", "SiLU", "Swish", "gelu", "Gelu", "relu", "Relu", "swiglu", "SwiGlu",
            "act_and_mul", "mul_and_silu", "activation", "tanh", "sigmoid")),
    (EMBEDDING, ("embedding", "Embedding", "indexSelect", "index_select", "vectorized_gather", "GatherV2",
                 "gather_kernel")),
    (BOOKKEEPING, ("block_table", "slot_mapping", "_post_update", "_prepare_", "_apply_write", "sampled_and_draft",
                   "num_sampled", "seq_lens", "expand_idx", "memcpy32_post", "arange", "input_batch", "copy_slots",
                   "_assert_async", "advance_step", "update_states", "update_inputs")),
    (ELEMENTWISE, ("elementwise", "^triton_", "copy_kernel", "CatArray", "fill", "Fill", "index_put", "index_copy",
                   "index_kernel", "reduce_kernel", "scatter_gather", "where", "compare", "masked", "unrolled",
                   "transpose", "Transpose", "^Cast", "^Add", "^Mul", "^Sub", "^RealDiv", "^Slice", "^Concat",
                   "^Tensor", "^Strided", "^Broadcast", "^Pack", "^Split", "^Zeros", "^Ones", "^Identity", "^Select",
                   "^aten::copy_", "^aten::_to_copy", "^aten::to", "^aten::add", "^aten::mul", "^aten::sub",
                   "^aten::div", "^aten::cat", "^aten::zero", "^aten::empty", "^aten::clone", "^aten::contiguous",
                   "^aten::view", "^aten::reshape", "^aten::t", "^aten::index", "^aten::select", "^aten::narrow",
                   "^aten::expand", "^aten::as_strided", "^aten::stack", "^aten::chunk", "^aten::unsqueeze",
                   "^aten::squeeze", "^aten::permute", "^aten::detach", "^aten::pow", "CompiledFxGraph", "cpp_fused",
                   "device_copy")),
)  # fmt: skip
"""(category, parts of names). `^` ties a part to the name's beginning, `*` stands for anything between two parts."""


@lru_cache(maxsize=8192)
def classify(name: str) -> str:
    """The category of a kernel, copy or operator by its name; `other` when no line matches."""
    for category, parts in TABLE:
        for part in parts:
            if _matches(part, name):
                return category
    return OTHER


def _matches(part: str, name: str) -> bool:
    """Plain text search: two hundred of them cost less than compiling as many regular expressions."""
    if part[0] != "^" and "*" not in part:
        return part in name
    head, star, tail = part.lstrip("^").partition("*")
    at = 0 if part[0] == "^" else name.find(head)
    return name.startswith(head, at) if at >= 0 and not star else at >= 0 and name.startswith(head, at) and (
        name.find(tail, at + len(head)) >= 0
    )  # fmt: skip


def is_collective(name: str) -> bool:
    """Whether the kernel's time includes waiting for other ranks."""
    return classify(name) == COLLECTIVE


def short(name: str, width: int = 80) -> str:
    """A kernel's name as people say it: no return type, no template arguments, cut to `width`; copies stay whole, for
    whether memory is pageable decides whether the CPU waits."""
    if name.startswith(("Memcpy", "Memset")):
        return name
    text = re.sub(r"^(void|std::enable_if<.*?>::type) ", "", name)
    text = text.replace("(anonymous namespace)::", "").replace("at::native::", "")
    inner = re.match(r"cutlass::device_kernel<(?:flash::enable_sm90_or_later<)?([\w:]+)", text)
    if inner:
        text = inner.group(1)
    functor = re.search(
        r"(direct_copy_kernel|silu_kernel|\w+Functor\w*|where_kernel|index_copy_kernel|\w+_functor)", text
    )
    head = re.split(r"[<(]", text, maxsplit=1)[0]
    if functor and functor.group(1) not in head:
        head = f"{head}<{functor.group(1)}>"
    return head if len(head) <= width else head[: width - 1] + "…"
