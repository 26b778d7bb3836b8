"""The classification table, on names as vLLM's and others' kernels have them."""

from __future__ import annotations

import pytest

from responder.traces.kernels import CATEGORIES, TABLE, classify, short

NAMES = {
    "attention": (
        "void flash::flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits<128, 64, 128>, false>(flash::Flash_fwd_params)",
        "void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<flash::Mainloop> > >(x)",
        "void flashinfer::BatchDecodeWithPagedKVCacheKernel<(flashinfer::PosEncodingMode)0, 2u, 4u, 8u>(Params)",
        "void flashinfer::BatchPrefillWithRaggedKVCacheKernel<(flashinfer::MaskMode)1, 1u>(Params)",
        "void vllm::paged_attention_v2_kernel<unsigned short, unsigned short, 128, 16, 128>(float*, float*)",
        "kernel_unified_attention_3d",
        "_fwd_grouped_kernel_stage1",
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128",
        "fmhaSm100fKernel_QkvBfloat16OBfloat16H128PagedKvCausal",
        "void cutlass::device_kernel<cutlass::fmha::kernel::Sm100FmhaMla<int> >(x)",
        "vllm::unified_attention_with_output",
        "FlashAttentionScore",
        "FusedInferAttentionScore",
        "PagedAttentionMaskNdKernel",
    ),
    "kv_cache": (
        "void vllm::reshape_and_cache_flash_kernel<__nv_bfloat16, (vllm::Fp8KVCacheDataType)0>(int)",
        "void vllm::concat_and_cache_mla_kernel<__nv_bfloat16>(int)",
        "_C_cache_ops::reshape_and_cache_flash",
        "ReshapeAndCacheNdKernel",
    ),
    "gemm": (
        "nvjet_tst_64x8_64x16_2x1_v_bz_splitK_TNT",
        "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_cublas",
        "void cublasLt::splitKreduce_kernel<32, 16, int, float>(int)",
        "void cutlass::device_kernel<cutlass::gemm::kernel::GemmUniversal<cute::tuple<int> > >(x)",
        "ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_stages_32x5_tn",
        "void gptq_marlin::Marlin<c10::Half, 16l, 256, 1, 8, 8, 4, true, 4, 8, false>(int4 const*)",
        "void machete::device_kernel<machete::MacheteKernelTemplate>(x)",
        "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16>(x)",
        "triton_red_fused_mm_0_scaled_mm_kernel",
        "_lora_shrink_kernel",
        "deep_gemm::sm90_fp8_gemm_1d2d_impl",
        "aten::addmm",
        "MatMulV2",
        "BatchMatMulV2",
        "QuantBatchMatmulV3",
        "Cijk_Ailk_Bljk_BBS_BH_Bias_HAS_SAV",
        "wvSplitK_hf_sml_",
    ),
    "moe": (
        "fused_moe_kernel",
        "void vllm::moe::topkGatingSoftmax<4, 64, 4, 16, 32, int>(float const*)",
        "void vllm::moe::moe_align_block_size_kernel<int>(int const*)",
        "void cutlass::device_kernel<cutlass::gemm::kernel::GemmUniversal<cutlass::gemm::GroupProblemShape<int> > >(x)",
        "GroupedMatmul",
        "void marlin_moe_wna16::Marlin<__nv_bfloat16>(int)",
    ),
    "mamba": (
        "_selective_scan_update_kernel", "_chunk_scan_fwd_kernel", "_causal_conv1d_update_kernel",
        "chunk_gated_delta_rule_fwd",
    ),
    "norm_activation": (
        "void vllm::fused_add_rms_norm_kernel<c10::BFloat16, 8>(c10::BFloat16*)",
        "void vllm::act_and_mul_kernel<c10::BFloat16, &(vllm::silu_kernel<c10::BFloat16>), true>(x)",
        "triton_red_fused_fused_add_rms_norm_2",
        "triton_poi_fused_mul_silu_slice_1",
        "RmsNorm",
        "SwiGlu",
    ),
    "rope": ("void vllm::rotary_embedding_kernel<c10::BFloat16, true>(long const*)", "ApplyRotaryPosEmb"),
    "quantization": (
        "void vllm::dynamic_per_token_scaled_fp8_quant_kernel_strided<c10::BFloat16>(x)",
        "void per_token_group_quant_8bit_kernel<c10::BFloat16>(x)",
        "AscendQuantV2",
    ),
    "sampling": (
        "_gumbel_sample_kernel",
        "_topk_topp_kernel",
        "void at_cuda_detail::cub::DeviceRadixSortOnesweepKernel<float>(int*)",
        "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::ArgMaxOps<float> > >(x)",
        "void at::native::(anonymous namespace)::cunn_SoftMaxForward<4, float>(float*)",
        "void vllm::apply_repetition_penalties_kernel<float>(float*)",
    ),
    "collective": (
        "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
        "void vllm::cross_device_reduce_1stage<__nv_bfloat16, 2>(vllm::RankData*)",
        "void flashinfer::trtllm_allreduce_fusion::allreduce_fusion_kernel_oneshot_lamport<int>(x)",
        "multimem_all_reduce_kernel",
        "hcom_allReduce_",
        "record_param_comms",
    ),
    "memcpy_h2d": ("Memcpy HtoD (Pageable -> Device)", "[CUDA memcpy Host-to-Device]"),
    "memcpy_d2h": ("Memcpy DtoH (Device -> Pinned)", "[CUDA memcpy Device-to-Host]"),
    "memcpy_d2d": ("Memcpy DtoD (Device -> Device)", "Memcpy PtoP (Device -> Device)"),
    "memset": ("Memset (Device)", "[CUDA memset]"),
    "other": ("my_own_thing", "", "x"),
}  # fmt: skip


@pytest.mark.parametrize(("category", "name"), [(c, n) for c, names in NAMES.items() for n in names])
def test_a_kernel_is_of_its_kind(category: str, name: str) -> None:
    """Whatever else its name mentions."""
    assert classify(name) == category


def test_every_line_of_the_table_names_a_known_category_and_can_match() -> None:
    """No empty part, no upper bound on how often a category appears."""
    for category, parts in TABLE:
        assert category in CATEGORIES
        assert all(part.strip("^*") for part in parts)


def test_short_names_keep_what_tells_kernels_apart() -> None:
    """Template arguments go; the functor of a generic kernel stays."""
    assert short(NAMES["attention"][1]) == "flash::FlashAttnFwdSm90"
    assert short(NAMES["norm_activation"][1]) == "vllm::act_and_mul_kernel<silu_kernel>"
    assert len(short("x" * 500)) == 80
