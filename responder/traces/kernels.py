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

TABLE: tuple[tuple[str, str], ...] = (
    # copies have fixed names in CUPTI, HIP and Ascend
    (H2D, r"^Memcpy (HtoD|HtoA)|^\[CUDA memcpy (Host-to-Device|HtoD)\]|CopyHostToDevice|^MEMCPY_HTOD|memcpy_h2d"),
    (D2H, r"^Memcpy (DtoH|AtoH)|^\[CUDA memcpy (Device-to-Host|DtoH)\]|CopyDeviceToHost|^MEMCPY_DTOH|memcpy_d2h"),
    (D2D, r"^Memcpy|^\[CUDA memcpy|CopyDeviceToDevice|^MEMCPY_(DTOD|PTOP)|^MEMCPY_ASYNC|memcpy_d2d"),
    (MEMSET, r"^Memset|^\[CUDA memset\]|^(void )?FillBuffer"),
    # collectives before everything that names an operation in passing (all_reduce + rms_norm fusions are collectives
    # for our purpose: their time includes waiting for the other ranks)
    (COLLECTIVE, r"nccl|rccl|hccl|hcom_|cross_device_reduce|multimem_|allreduce|all_reduce|two_shot|one_shot_all"),
    (
        COLLECTIVE,
        r"all_?gather|reduce_?scatter|all_?to_?all|quickreduce|nvshmem|deep_ep|c10d::|record_param_comms|gloo|shm_allreduce",
    ),
    (
        COLLECTIVE,
        r"^(AllGather|AllReduce|ReduceScatter|AlltoAll|Broadcast|Send|Receive)(AicpuKernel|$|_)|MC2|DispatchFFN",
    ),
    # the cache writes are called ..._flash, so before attention
    (KV_CACHE, r"reshape_and_cache|concat_and_cache|gather_cache|gather_and_maybe|copy_blocks|swap_blocks|kv_?cache"),
    (
        KV_CACHE,
        r"ReshapeAndCache|KvCache|PagedCacheLoad|cp_gather|indexer_k_quant_and_cache|ScatterNdUpdate|scatter_pa",
    ),
    # state-space kernels before attention: some are called "linear attention"
    (
        MAMBA,
        r"mamba|selective_scan|selective_state|_ssd_|_state_passing|chunk_scan|chunk_state|causal_conv1d|gated_delta",
    ),
    (MAMBA, r"linear_attn|lightning_attn|gdn_|kda_|chunk_fwd|chunk_gla|fused_recurrent|rwkv|bmm_chunk"),
    # mixture of experts before gemm: grouped gemms carry both names; routing top-k before sampling
    (
        MOE,
        r"moe|expert|topkGating|topk_gating|grouped_topk|topk_softmax|topk_sigmoid|GroupedMatmul|grouped_gemm|group_gemm",
    ),
    (
        MOE,
        r"ep_scatter|ep_gather|silu_mul_masked|permute_kernel|unpermute|trtllm::.*routing|routingMain|deep_gemm.*[Gg]roup",
    ),
    # attention before gemm: cutlass::device_kernel<flash::...> and cudnn's sdpa kernels are attention
    (
        ATTENTION,
        r"flash::|_vllm_fa\d|flash_?attn|flash_?attention|flash_fwd|flash_bwd|flashinfer|FlashAttn|FlashAttention|flash_mla",
    ),
    (
        ATTENTION,
        r"fmha|sdpa|paged_attention|paged_?attn|PagedAttention|unified_attention|kernel_unified_att|mha_fwd|MlaDecode",
    ),
    (
        ATTENTION,
        r"BatchDecode|BatchPrefill|PrefillWithKV|DecodeWithKV|merge_attn_states|MergeState|attn_fwd|decode_att",
    ),
    (
        ATTENTION,
        r"scaled_dot_product|attention|FusedInferAttention|PromptFlash|IncreFlash|RingAttention|xqa_|mla::|sparse_attn",
    ),
    (
        ATTENTION,
        r"_fwd_kernel_stage|_fwd_grouped_kernel|prepare_varlen_num_blocks|merge_attn|mqa_logits|context_attention",
    ),
    # quantised gemms before quantisation
    (
        GEMM,
        r"marlin|machete|gptq|awq|exllama|wvSplitK|bitblas|cutlass_scaled_mm|scaled_mm|w8a8|w4a16|wna16|QuantBatchMatmul",
    ),
    (
        GEMM,
        r"gemm|gemv|cutlass|nvjet|cublas|splitK|matmul|xmma|Cijk_|_s\d+gemm|tensorop|wgmma|deep_gemm|fp8_gemm|^ck::.*Gemm",
    ),
    (
        GEMM,
        r"^aten::(addmm|mm|bmm|baddbmm|linear|_scaled_mm|_weight_int4pack_mm)|MatMul|BatchMatMul|onednn::.*matmul|mkldnn",
    ),
    (GEMM, r"dnnl|^_C::.*(onednn|gemm|mm)|lora_(shrink|expand)|bgmv|sgmv|dot_kernel|^Conv\dD|convolution"),
    (
        QUANT,
        r"quant|fp8_(cast|convert)|cvt_fp|to_fp8|AscendQuant|cast_to_fp4|scale_swizzle|per_token_group|DynamicQuant",
    ),
    # sampling before normalisation (softmax over logits) and before element-wise (sort, argmax, exponential)
    (
        SAMPLING,
        r"sampl|gumbel|topk|top_k|topp|top_p|argmax|ArgMax|multinomial|exponential|RadixSort|radix|bitonic|sort",
    ),
    (
        SAMPLING,
        r"penalt|logit|cunn_SoftMax|logprob|rejection|Philox.*distribution|distribution_elementwise|TopK|Softmax|softmax",
    ),
    (
        SAMPLING,
        r"log_softmax|scan_innermost|cumsum|eagle|spec_decode|grammar|bitmask|uniform_and_transform|tensor_kernel_scan",
    ),
    (ROPE, r"rotary|rope|Rope|ApplyRotary|Interleave.*Rope"),
    (NORM, r"norm|Norm|silu|Silu|SiLU|gelu|Gelu|relu|swiglu|SwiGlu|act_and_mul|mul_and_silu|activation|tanh|sigmoid"),
    (EMBEDDING, r"embedding|Embedding|indexSelect|index_select|vectorized_gather|GatherV2|gather_kernel"),
    (
        BOOKKEEPING,
        r"block_table|slot_mapping|_post_update|_prepare_|_apply_write|sampled_and_draft|num_sampled|seq_lens",
    ),
    (
        BOOKKEEPING,
        r"expand_idx|memcpy32_post|arange|input_batch|copy_slots|_assert_async|advance_step|update_.*(state|inputs)",
    ),
    (
        ELEMENTWISE,
        r"elementwise|triton_(poi|per|red|tem|for)_|copy_kernel|CatArray|fill|Fill|index_(put|copy|elementwise|kernel)",
    ),
    (
        ELEMENTWISE,
        r"reduce_kernel|scatter_gather|where|compare|masked|unrolled|roll|transpose|Transpose|Cast$|Cast_|^Cast",
    ),
    (
        ELEMENTWISE,
        r"^(Add|Mul|Sub|RealDiv|Slice|Concat|Tensor|Strided|Broadcast|Pack|Split|Zeros|Ones|Identity|Select)",
    ),
    (
        ELEMENTWISE,
        r"^aten::(copy_|_to_copy|to|add|mul|sub|div|cat|fill|zero|empty|clone|contiguous|view|reshape|slice|t$)",
    ),
    (
        ELEMENTWISE,
        r"^aten::(index|select|narrow|expand|as_strided|stack|split|chunk|unsqueeze|squeeze|permute|detach|pow)",
    ),
    (ELEMENTWISE, r"CompiledFxGraph|graph_\d+_cpp_fused|cpp_fused|^triton_|device_copy|Memcopy|tensor_copy"),
)
"""(category, regular expression searched in the name)."""

_COMPILED = tuple((category, re.compile(pattern)) for category, pattern in TABLE)

_FUSED_NORM = re.compile(r"triton_\w*(norm|silu|gelu|swiglu)")


@lru_cache(maxsize=8192)
def classify(name: str) -> str:
    """The category of a kernel, copy or operator by its name; `other` when no line matches."""
    if name.startswith("triton_") and _FUSED_NORM.match(name):
        return NORM  # a fused kernel's name lists every operation it swallowed, `mul_silu_slice` and the like
    for category, pattern in _COMPILED:
        if pattern.search(name):
            return category
    return OTHER


def is_collective(name: str) -> bool:
    """Whether the kernel's time includes waiting for other ranks."""
    return classify(name) == COLLECTIVE


def short(name: str, width: int = 80) -> str:
    """A kernel's name as people say it: no return type, no template arguments' arguments, cut to `width`."""
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
