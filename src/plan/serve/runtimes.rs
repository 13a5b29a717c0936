//! The table of runtimes. A new one is one entry; what changes in one of them is one line.
//!
//! Read in the programs' sources:
//!
//! | program | files | as of |
//! |---|---|---|
//! | PEFT | `utils/save_and_load.py` (`set_peft_model_state_dict`) | 0.21.2 |
//! | vLLM | `vllm/lora/peft_helper.py` (`validate_legal`), `vllm/config/lora.py` (`MaxLoRARanks`) | commits after 0.11; 01230b40 |
//! | llama.cpp | `convert_lora_to_gguf.py`, `src/llama-adapter.h` (`get_scale`) | 0b03adaa, 215841fc |
//! | Ollama | `convert/convert.go` (`AdapterParameters`, `ConvertAdapter`), `convert/convert_llama_adapter.go` | fb307609 (2026-08-21) |
//! | mlx-lm | `tuner/utils.py` (`linear_to_lora_layers`, `load_adapters`), `tuner/lora.py` | 0.32.2 |
//! | SGLang | `srt/lora/lora_config.py`, `lora.py`, `lora_manager.py` (`validate_new_adapter`), `mem_pool.py`, `utils.py` | 0.5.23 |

use super::Effect::{Differs, Flag, Ignores, Refuses};
use super::{Feature, Form, Rule, Runtime, Unloaded};

const fn rule(feature: Feature, effect: super::Effect, text: &'static str, source: &'static str) -> Rule {
    Rule { feature, effect, text, source }
}

/// What llama.cpp's converter of adapters takes no part of; the same for Ollama, which loads its files.
macro_rules! gguf_rules {
    ($($more:expr),* $(,)?) => {
        &[
            rule(Feature::NotIn("GGUF"), Refuses, "it takes a GGUF file, made for its base", "llama.cpp convert_lora_to_gguf.py; #10551"),
            rule(Feature::SavedModules, Refuses, "a tensor that is saved whole is \"not a lora_A or lora_B tensor\"; a norm is taken and left out", "llama.cpp convert_lora_to_gguf.py; #11554"),
            rule(Feature::SavedHead, Refuses, "a tensor that is saved whole is \"not a lora_A or lora_B tensor\"", "llama.cpp#11554"),
            rule(Feature::Dora, Refuses, "it knows no magnitudes", "llama.cpp convert_lora_to_gguf.py"),
            rule(Feature::Bias, Refuses, "it knows no biases in adapters", "llama.cpp convert_lora_to_gguf.py"),
            rule(Feature::Tokens, Refuses, "it knows no trained rows", "llama.cpp convert_lora_to_gguf.py; pull 9948"),
            rule(Feature::Experts, Refuses, "a pair for a stack of experts has no name there", "llama.cpp convert_lora_to_gguf.py"),
            rule(Feature::RsLora, Differs, "it scales by α / r of each pair, √r times less", "llama.cpp src/llama-adapter.h, get_scale"),
            rule(Feature::Alphas, Differs, "it reads one α for all pairs, and alpha_pattern nowhere", "llama.cpp convert_lora_to_gguf.py"),
            rule(Feature::TakenOut, Differs, "its pairs count on a base that was changed", "peft, path_initial_model_for_weight_conversion"),
            rule(Feature::VariantBut("aLoRA"), Differs, "its pairs are added everywhere, as plain LoRA", "llama.cpp convert_lora_to_gguf.py"),
            $($more),*
        ]
    };
}

/// Bases that Ollama converts adapters for: those of its architectures `llama` and `gemma2`. GGUF adapters of others go through.
const OLLAMA: &[&str] = &["llama", "mistral", "gemma2"];

/// Every runtime, in the order of the command line's help.
pub static RUNTIMES: [Runtime; 6] = [
    Runtime {
        name: "peft",
        form: Form::Peft,
        rules: &[
            rule(Feature::NotIn("PEFT"), Refuses, "it takes its own folders", "peft 0.21.2, utils/save_and_load.py"),
            rule(
                Feature::FileNames,
                Ignores,
                "it finds tensors by the names of transformers' class, which are not those of the base's file here",
                "peft 0.21.2, utils/save_and_load.py, set_peft_model_state_dict",
            ),
            rule(
                Feature::OtherNames,
                Ignores,
                "the base spells these modules otherwise",
                "peft 0.21.2, utils/save_and_load.py, set_peft_model_state_dict",
            ),
            rule(
                Feature::Unloaded(Unloaded::Parameter),
                Refuses,
                "transformers' class has no linear layer there: target_parameters must name it, with .weight behind it",
                "peft 0.21.2, tuners/lora/model.py, _create_new_module; transformers 5.24.0",
            ),
            rule(
                Feature::Unloaded(Unloaded::Unnamed),
                Ignores,
                "transformers' class has a router of another name, and no linear layer there: target_parameters must name it",
                "peft 0.21.2, tuners/tuners_utils.py, inject_adapter; transformers 5.24.0",
            ),
            rule(
                Feature::Unloaded(Unloaded::Rank),
                Refuses,
                "it looks for a router's rank under the name of its parameter: rank_pattern needs a key with .weight behind it",
                "peft 0.21.2, utils/transformers_weight_conversion.py, _convert_peft_config_moe",
            ),
            rule(
                Feature::Unloaded(Unloaded::Alpha),
                Differs,
                "it looks for a router's α under the name of its parameter: alpha_pattern needs a key with .weight behind it",
                "peft 0.21.2, utils/transformers_weight_conversion.py, _convert_peft_config_moe",
            ),
            rule(
                Feature::Unloaded(Unloaded::Mixed),
                Refuses,
                "it takes gate_proj, up_proj and down_proj for those of the experts, gate and up together with twice the rank: \
                 target_parameters must name what is meant, with .weight behind it",
                "peft 0.21.2, utils/transformers_weight_conversion.py, _convert_peft_config_moe",
            ),
            rule(
                Feature::Unloaded(Unloaded::Dropped),
                Ignores,
                "it takes gate_proj, up_proj and down_proj for those of the experts: target_parameters must name what is meant, with .weight \
                 behind it",
                "peft 0.21.2, utils/transformers_weight_conversion.py, _convert_peft_config_moe",
            ),
            rule(
                Feature::Unloaded(Unloaded::Mamba),
                Refuses,
                "a fused kernel of Mamba reads this weight past the adapter",
                "peft 0.21.2, tuners/tuners_utils.py, _check_lora_target_modules_mamba",
            ),
        ],
    },
    Runtime {
        name: "vllm",
        form: Form::Peft,
        rules: &[
            rule(Feature::NotIn("PEFT"), Refuses, "it takes PEFT's folders", "vllm lora/peft_helper.py"),
            rule(Feature::RankAbove(512), Refuses, "--max-lora-rank goes up to 512", "vllm config/lora.py; #2847"),
            rule(
                Feature::RankAbove(16),
                Flag,
                "start it with --max-lora-rank of at least this rank, the default is 16",
                "vllm#2847",
            ),
            rule(
                Feature::SavedModules,
                Refuses,
                "\"vLLM only supports modules_to_save being None\"",
                "vllm lora/peft_helper.py; #9280",
            ),
            rule(
                Feature::SavedHead,
                Refuses,
                "\"vLLM only supports modules_to_save being None\"",
                "vllm lora/peft_helper.py, _validate_features",
            ),
            rule(Feature::Dora, Refuses, "\"vLLM does not yet support DoRA\"", "vllm lora/peft_helper.py; #6983"),
            rule(Feature::Bias, Refuses, "\"Adapter bias is not supported\"", "vllm lora/peft_helper.py"),
            rule(
                Feature::Tokens,
                Flag,
                "start it with --max-lora-trainable-tokens of at least so many; versions without this flag have no place for them",
                "vllm lora/peft_helper.py, validate_legal",
            ),
            rule(
                Feature::Scales,
                Differs,
                "it reads no alpha_pattern and no rank_pattern: all pairs are scaled by α / r of the config",
                "vllm lora/peft_helper.py",
            ),
            rule(
                Feature::Embedding,
                Ignores,
                "pairs on embeddings are not loaded by newer versions",
                "vllm lora/utils.py",
            ),
            rule(
                Feature::Experts,
                Refuses,
                "it takes the two factors the other way round and the engine ends",
                "vllm#41384, #52194",
            ),
            rule(
                Feature::OtherNames,
                Ignores,
                "the base spells these modules otherwise: none of them is matched, without a warning",
                "vllm#39369, #49354",
            ),
            rule(
                Feature::TakenOut,
                Differs,
                "its pairs count on a base that was changed",
                "peft, path_initial_model_for_weight_conversion",
            ),
            rule(
                Feature::Variant,
                Differs,
                "its pairs are added everywhere, as plain LoRA",
                "vllm lora/peft_helper.py",
            ),
        ],
    },
    Runtime { name: "llama.cpp", form: Form::Gguf, rules: gguf_rules!() },
    Runtime {
        name: "ollama",
        form: Form::Gguf,
        rules: gguf_rules!(
            rule(
                Feature::RealAlpha,
                Refuses,
                "its own converter reads α as a whole number; a GGUF file holds it as it is",
                "ollama convert/convert.go; #17377"
            ),
            rule(
                Feature::BaseOtherThan(OLLAMA),
                Refuses,
                "its own converter knows adapters of Llama, Mistral and Gemma 2 alone; a GGUF file goes by it",
                "ollama convert/convert.go, ConvertAdapter"
            ),
        ),
    },
    Runtime {
        name: "mlx",
        form: Form::Mlx,
        rules: &[
            rule(Feature::NotIn("mlx-lm"), Refuses, "it takes mlx-lm's own folders", "mlx-lm#1119; tuner/utils.py"),
            rule(
                Feature::SavedModules,
                Refuses,
                "it has no place for weights that are saved whole",
                "mlx-lm tuner/utils.py",
            ),
            rule(
                Feature::SavedHead,
                Refuses,
                "it has no place for weights that are saved whole",
                "mlx-lm tuner/utils.py",
            ),
            rule(Feature::Bias, Refuses, "it has no place for biases", "mlx-lm tuner/lora.py"),
            rule(Feature::Tokens, Refuses, "it has no place for rows of an embedding", "mlx-lm tuner/utils.py"),
            rule(Feature::Ranks, Refuses, "it makes all pairs of one rank", "mlx-lm tuner/utils.py"),
            rule(Feature::Scales, Differs, "it knows one scale for all pairs", "mlx-lm tuner/lora.py"),
            rule(
                Feature::TakenOut,
                Differs,
                "its pairs count on a base that was changed",
                "peft, path_initial_model_for_weight_conversion",
            ),
            rule(Feature::Variant, Differs, "its pairs are added everywhere, as plain LoRA", "mlx-lm tuner/lora.py"),
        ],
    },
    Runtime {
        name: "sglang",
        form: Form::Peft,
        rules: &[
            rule(Feature::NotIn("PEFT"), Refuses, "it takes PEFT's folders", "sglang srt/lora/lora_config.py"),
            rule(
                Feature::TargetPattern,
                Refuses,
                "\"Only 'all' or 'all-linear' can be used as the string for target module\"",
                "sglang srt/lora/utils.py, get_normalized_target_modules",
            ),
            rule(
                Feature::SavedModules,
                Ignores,
                "weights that are saved whole are passed over, or end it where they are a block's",
                "sglang srt/lora/lora.py, _process_weight; mem_pool.py",
            ),
            rule(
                Feature::SavedHead,
                Ignores,
                "weights that are saved whole are passed over",
                "sglang srt/lora/lora.py, _process_weight",
            ),
            rule(
                Feature::Dora,
                Refuses,
                "\"LoRA serving currently doesn't support DoRA adapters\"",
                "sglang srt/lora/lora_manager.py, validate_new_adapter",
            ),
            rule(
                Feature::Bias,
                Refuses,
                "a bias is taken for a factor, of a shape that its buffer has not",
                "sglang srt/lora/mem_pool.py, load_lora_weight_to_buffer",
            ),
            rule(
                Feature::Ranks,
                Refuses,
                "buffers are of the config's r: factors of another rank fail an assertion",
                "sglang srt/lora/mem_pool.py, load_lora_weight_to_buffer",
            ),
            rule(
                Feature::Tokens,
                Ignores,
                "trained rows of an embedding are passed over",
                "sglang srt/lora/lora.py, _process_weight",
            ),
            rule(Feature::RsLora, Differs, "it scales by α / r", "sglang srt/lora/lora.py, scaling"),
            rule(
                Feature::Scales,
                Differs,
                "it reads no alpha_pattern and no rank_pattern: all pairs are scaled by α / r of the config",
                "sglang srt/lora/lora.py, scaling",
            ),
            rule(
                Feature::Experts,
                Ignores,
                "pairs of target_parameters have names that match none of its modules",
                "sglang srt/lora/mem_pool.py; #25528",
            ),
            rule(
                Feature::OtherNames,
                Ignores,
                "the base spells these modules otherwise",
                "sglang srt/lora/lora_manager.py",
            ),
            rule(
                Feature::TakenOut,
                Differs,
                "its pairs count on a base that was changed",
                "peft, path_initial_model_for_weight_conversion",
            ),
            rule(Feature::Variant, Differs, "its pairs are added everywhere, as plain LoRA", "sglang srt/lora/lora.py"),
        ],
    },
];
