//! Parameter counts against published figures, PEFT's own numbers and the LoRA paper's table.

use rankscope::checkpoint::Role;
use rankscope::plan::{Layout, Pairs, Selection, Targets, count, find, paper, presets};
use rankscope::spec::ModelSpec;
use rankscope::units::exact;
use std::collections::HashSet;
use std::path::Path;

fn parameters(id: &str) -> u64 {
    find(id).unwrap().layout().parameters
}

/// Exact counts of the published models: `safetensors.total` of the hub's model API where the hub's file holds each
/// weight once and nothing else, otherwise `sum(p.numel() for p in model.parameters())` in transformers.
#[rustfmt::skip]
const PUBLISHED: &[(&str, u64)] = &[
    ("llama-7b", 6_738_415_616), ("llama-13b", 13_015_864_320), ("llama-30b", 32_528_943_616), ("llama-65b", 65_285_660_672),
    ("llama-2-7b", 6_738_415_616), ("llama-2-13b", 13_015_864_320), ("llama-2-70b", 68_976_648_192),
    ("llama-3-8b", 8_030_261_248), ("llama-3-70b", 70_553_706_496),
    ("llama-3.1-8b", 8_030_261_248), ("llama-3.1-70b", 70_553_706_496), ("llama-3.1-405b", 405_853_388_800),
    ("llama-3.2-1b", 1_235_814_400), ("llama-3.2-3b", 3_212_749_824), ("llama-3.3-70b", 70_553_706_496),
    ("tinyllama-1.1b", 1_100_048_384),
    ("mistral-7b-v0.1", 7_241_732_096), ("mistral-7b-v0.3", 7_248_023_552), ("ministral-8b", 8_019_808_256),
    ("mistral-nemo-12b", 12_247_782_400), ("mistral-small-24b", 23_572_403_200), ("mistral-large-123b", 122_610_069_504),
    ("mixtral-8x7b", 46_702_792_704),
    ("qwen2.5-0.5b", 494_032_768), ("qwen2.5-1.5b", 1_543_714_304), ("qwen2.5-3b", 3_085_938_688),
    ("qwen2.5-7b", 7_615_616_512), ("qwen2.5-14b", 14_770_033_664), ("qwen2.5-32b", 32_763_876_352),
    ("qwen2.5-72b", 72_706_203_648),
    ("qwen3-0.6b", 596_049_920), ("qwen3-1.7b", 1_720_574_976), ("qwen3-4b", 4_022_468_096),
    ("qwen3-8b", 8_190_735_360), ("qwen3-14b", 14_768_307_200), ("qwen3-32b", 32_762_123_264),
    // transformers 5.24 on the meta device, by tests/fixtures/presets.py.
    ("qwen3-30b-a3b", 30_532_122_624), ("qwen3-235b-a22b", 235_093_634_560),
    ("qwen3.5-0.8b", 752_393_024), ("qwen3.5-2b", 1_881_825_088), ("qwen3.5-4b", 4_205_751_296), ("qwen3.5-27b", 26_895_998_464),
    ("qwen3.5-35b-a3b", 34_660_610_688), ("gemma-4-e2b", 4_628_569_344),
    ("gemma-4-e4b", 7_463_013_376), ("gemma-4-26b-a4b", 25_233_141_760), ("gemma-4-31b", 30_697_345_280), ("gemma-4-12b", 11_907_350_272),
    ("gpt-oss-20b", 20_914_757_184), ("gpt-oss-120b", 116_829_156_672),
    ("llama-4-scout", 107_769_861_120), ("llama-4-maverick", 400_711_848_960),
    ("ministral-3-3b", 3_429_006_336), ("ministral-3-8b", 8_489_553_920), ("ministral-3-14b", 13_506_073_600),
    ("smollm3-3b", 3_075_098_624), ("olmo-3-7b", 7_298_011_136), ("olmo-3-32b", 32_233_522_176),
    ("glm-4.7-flash", 29_943_390_976), ("deepseek-v3", 671_026_404_352),
    ("lfm2-1.2b", 1_170_340_608), ("lfm2-8b-a1b", 8_339_929_856),
    ("granite-4.0-h-tiny", 6_939_037_248), ("granite-4.0-micro", 3_402_836_480), ("nemotron-3-nano-30b-a3b", 31_577_937_344),
    // transformers 5.24's config classes as they are without arguments, on the meta device.
    ("qwen3.5-9b", 8_953_803_264), ("olmo-hybrid-7b", 7_430_870_688), ("bamba-9b", 9_992_765_440),
    ("gemma-2-2b", 2_614_341_888), ("gemma-2-9b", 9_241_705_984), ("gemma-2-27b", 27_227_128_320),
    ("gemma-3-270m", 268_098_176), ("gemma-3-1b", 999_885_952), ("gemma-3-4b", 3_880_263_168),
    ("gemma-3-12b", 11_766_034_176), ("gemma-3-27b", 27_009_346_304),
    ("phi-3-mini", 3_821_079_552), ("phi-3.5-mini", 3_821_079_552), ("phi-3-medium", 13_960_238_080),
    ("phi-4", 14_659_507_200), ("phi-4-mini", 3_836_021_760),
    ("gpt2", 124_439_808), ("gpt2-medium", 354_823_168), ("gpt2-large", 774_030_080), ("gpt2-xl", 1_557_611_200),
    ("pythia-70m", 70_426_624), ("pythia-160m", 162_322_944), ("pythia-410m", 405_334_016), ("pythia-1b", 1_011_781_632),
    ("pythia-1.4b", 1_414_647_808), ("pythia-2.8b", 2_775_208_960), ("pythia-6.9b", 6_857_302_016),
    ("pythia-12b", 11_846_072_320), ("gpt-neox-20b", 20_554_567_680),
];

#[test]
fn presets_have_the_published_number_of_parameters() {
    let wrong: Vec<String> = PUBLISHED
        .iter()
        .filter(|(id, published)| parameters(id) != *published)
        .map(|(id, published)| format!("{id}: {} against {published}", parameters(id)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_preset_but_gpt3_is_checked_and_named_once() {
    let checked: HashSet<&str> = PUBLISHED.iter().map(|(id, _)| *id).collect();
    let mut ids = HashSet::new();
    for preset in presets() {
        assert!(ids.insert(preset.id), "{} twice", preset.id);
        assert!(checked.contains(preset.id) || preset.id == "gpt3-175b", "{} is not checked", preset.id);
        assert_eq!(find(preset.id).unwrap().id, preset.id);
        assert_eq!(find(preset.title).unwrap().id, preset.id);
        assert_eq!(find(preset.source).unwrap().id, preset.id);
        let names: HashSet<String> = preset.layout().weights.into_iter().map(|weight| weight.name).collect();
        assert_eq!(names.len(), preset.layout().weights.len(), "{}: a name twice", preset.id);
    }
}

#[test]
fn a_preset_is_found_by_any_of_its_names() {
    for name in ["gpt3-175b", "GPT-3 175B", "gpt-3", "GPT3"] {
        assert_eq!(find(name).unwrap().id, "gpt3-175b", "{name}");
    }
    assert_eq!(find("meta-llama/Llama-3.1-8B").unwrap().id, "llama-3.1-8b");
    assert_eq!(find("Meta-Llama-3-8B").unwrap().id, "llama-3-8b");
    let unknown = find("bert-base").unwrap_err();
    assert_eq!(unknown.status(), 2);
    assert!(unknown.to_string().contains("\"bert-base\""), "{unknown}");
    assert!(unknown.to_string().contains("gpt3-175b"), "{unknown}");
    let several = find("llama-3.1").unwrap_err();
    assert!(several.to_string().contains("llama-3.1-8b, llama-3.1-70b, llama-3.1-405b"), "{several}");
    assert_eq!(find("").unwrap_err().status(), 2);
}

/// The GPT-3 paper (arXiv 2005.14165), table D.1: 174,600 million parameters.
#[test]
fn gpt3_has_what_its_paper_prints() {
    let layout = Layout::preset("gpt3-175b").unwrap();
    assert_eq!(layout.parameters, 174_604_259_328);
    assert_eq!(layout.layers(), 96);
}

/// shared formulas: the weights that QLoRA quantizes.
#[test]
fn linear_weights_of_llama() {
    assert_eq!(Layout::preset("llama-7b").unwrap().linear_parameters(), 6_476_005_376);
    assert_eq!(Layout::preset("llama-65b").unwrap().linear_parameters(), 64_760_053_760);
}

/// LoRA on GPT-3 175B, exact values of the paper's formula `2 L_LoRA d r`.
#[test]
fn lora_on_gpt3() {
    let layout = Layout::preset("gpt3-175b").unwrap();
    let trainable = |targets: &str, r| count(&layout, &targets.parse().unwrap(), r).unwrap().trainable;
    for (targets, r, expected) in [
        ("v_proj", 2, 4_718_592),
        ("q_proj,v_proj", 1, 4_718_592),
        ("qv", 2, 9_437_184),
        ("attention", 1, 9_437_184),
        ("q_proj,v_proj", 4, 18_874_368),
        ("q,k,v,o", 2, 18_874_368),
        ("q_proj,v_proj", 8, 37_748_736),
        ("attention", 4, 37_748_736),
        ("q_proj,v_proj", 64, 301_989_888),
        ("q_proj,k_proj,v_proj,o_proj", 64, 603_979_776),
    ] {
        assert_eq!(trainable(targets, r), expected, "{targets} at {r}");
    }
    let one = count(&layout, &Targets::QV, 1).unwrap();
    assert_eq!(one.adapter_bytes_f16, 2 * 4_718_592);
    assert!((one.percent - 100.0 * 4_718_592.0 / 174_604_259_328.0).abs() < 1e-12);
}

/// All linear layers, for each unit of rank.
#[test]
fn all_linear_per_unit_of_rank() {
    let per_rank = |id| Selection::new(&Layout::preset(id).unwrap(), &Targets::AllLinear).unwrap().per_rank;
    assert_eq!(per_rank("llama-7b"), 2_498_560);
    assert_eq!(per_rank("llama-3-8b"), 2_621_440);
}

/// PEFT's `print_trainable_parameters` for these models is known from its documentation and its users' logs.
#[test]
fn counts_that_peft_prints() {
    for (id, targets, r, expected) in [
        ("llama-2-7b", "q_proj,v_proj", 8, 4_194_304),
        ("llama-2-7b", "all-linear", 16, 39_976_960),
        ("llama-3.1-8b", "all-linear", 16, 41_943_040),
        ("mistral-7b-v0.3", "all-linear", 16, 41_943_040),
        ("gpt2", "c_attn", 8, 294_912),
        ("phi-3-mini", "all-linear", 16, 25_165_824),
    ] {
        let layout = Layout::preset(id).unwrap();
        assert_eq!(count(&layout, &targets.parse().unwrap(), r).unwrap().trainable, expected, "{id} {targets} {r}");
    }
}

/// `config.json`, parameters and PEFT's trainable parameters of ten small models, made by transformers 5.23 and
/// peft 0.21 (`sum(p.numel() for p in model.parameters())`, and the same over those with gradients): rank 4 on all
/// linear layers (gpt_neox: query_key_value and dense), and rank 6 on the first of them.
const CONFIGS: [(&str, u64, &str, &str, u64); 10] = [
    (
        r#"{"attention_bias": false, "head_dim": 16, "hidden_size": 64, "intermediate_size": 160, "mlp_bias": false,
        "model_type": "llama", "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2,
        "tie_word_embeddings": false, "vocab_size": 320}"#,
        127_296,
        "all-linear",
        "q_proj",
        9_472,
    ),
    (
        r#"{"head_dim": 32, "hidden_size": 64, "intermediate_size": 160, "model_type": "llama", "num_attention_heads": 4,
        "num_hidden_layers": 2, "num_key_value_heads": 2, "tie_word_embeddings": true, "vocab_size": 320,
        "rope_theta": 500000.0, "torch_dtype": "bfloat16"}"#,
        131_392,
        "all-linear",
        "q_proj",
        11_264,
    ),
    (
        r#"{"head_dim": 16, "hidden_size": 64, "intermediate_size": 160, "model_type": "mistral", "num_attention_heads": 4,
        "num_hidden_layers": 2, "num_key_value_heads": 2, "tie_word_embeddings": false, "vocab_size": 320}"#,
        127_296,
        "all-linear",
        "q_proj",
        9_472,
    ),
    (
        r#"{"hidden_size": 64, "intermediate_size": 160, "model_type": "qwen2", "num_attention_heads": 4,
        "num_hidden_layers": 2, "num_key_value_heads": 2, "tie_word_embeddings": true, "vocab_size": 320}"#,
        107_072,
        "all-linear",
        "q_proj",
        9_472,
    ),
    (
        r#"{"attention_bias": false, "head_dim": 24, "hidden_size": 64, "intermediate_size": 160, "model_type": "qwen3",
        "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2, "tie_word_embeddings": false,
        "vocab_size": 320}"#,
        139_680,
        "all-linear",
        "q_proj",
        10_368,
    ),
    (
        r#"{"attention_bias": false, "head_dim": 32, "hidden_size": 64, "intermediate_size": 160, "model_type": "gemma2",
        "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2, "vocab_size": 320}"#,
        131_648,
        "all-linear",
        "q_proj",
        11_264,
    ),
    (
        r#"{"text_config": {"attention_bias": false, "head_dim": 32, "hidden_size": 64, "intermediate_size": 160,
        "model_type": "gemma3_text", "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2,
        "vocab_size": 320}}"#,
        131_776,
        "all-linear",
        "q_proj",
        11_264,
    ),
    (
        r#"{"hidden_size": 64, "intermediate_size": 160, "model_type": "phi3", "num_attention_heads": 4,
        "num_hidden_layers": 2, "num_key_value_heads": 2, "tie_word_embeddings": false, "vocab_size": 320}"#,
        127_296,
        "all-linear",
        "qkv_proj",
        8_192,
    ),
    (
        r#"{"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_inner": null, "n_layer": 2, "n_positions": 256,
        "vocab_size": 320}"#,
        136_960,
        "all-linear",
        "c_attn",
        9_216,
    ),
    (
        r#"{"attention_bias": true, "hidden_size": 64, "intermediate_size": 160, "model_type": "gpt_neox",
        "num_attention_heads": 4, "num_hidden_layers": 2, "tie_word_embeddings": false, "vocab_size": 320}"#,
        116_288,
        "query_key_value,dense",
        "query_key_value",
        4_096,
    ),
];

fn spec(config: &str) -> rankscope::error::Result<ModelSpec> {
    ModelSpec::of_config(&serde_json::from_str(config).unwrap(), Path::new("config.json"), None)
}

#[test]
fn the_builder_reproduces_transformers_and_peft() {
    for (config, parameters, targets, first, trainable) in CONFIGS {
        let layout = Layout::from_spec("small", spec(config).unwrap());
        assert_eq!(layout.parameters, parameters, "{config}");
        let all = Selection::new(&layout, &targets.parse().unwrap()).unwrap();
        let first = Selection::new(&layout, &first.parse().unwrap()).unwrap();
        assert_eq!(4 * all.per_rank + 2 * first.per_rank, trainable, "{config}");
    }
}

#[test]
fn a_config_that_cannot_be_counted_says_why() {
    let reason = |text: &str| spec(text).unwrap_err().to_string();
    assert!(reason("{}").contains("model_type"));
    assert!(reason(r#"{"model_type": "bart"}"#).contains("a model of type bart is not known here"));
    assert!(reason(r#"{"model_type": "llama", "num_attention_heads": 4}"#).contains("hidden_size"));
    let zero = r#"{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 0, "num_hidden_layers": 2,
        "intermediate_size": 9, "vocab_size": 9}"#;
    assert!(reason(zero).contains("found num_attention_heads 0"), "{}", reason(zero));
    let huge = zero.replace(": 0", ": 4").replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 16777216");
    assert!(reason(&huge).contains("16777216 blocks"), "{}", reason(&huge));
}

#[test]
fn targets_are_matched_as_peft_does() {
    let layout = Layout::preset("llama-3.2-1b").unwrap();
    let names = |text: &str| -> Vec<String> {
        let selection = Selection::new(&layout, &text.parse().unwrap()).unwrap();
        selection.weights(&layout).map(|weight| weight.name.clone()).collect()
    };
    assert_eq!(names("q_proj").len(), 16);
    assert_eq!(names("q_proj, v_proj").len(), 32);
    assert_eq!(names("layers.3.self_attn.q_proj"), ["model.layers.3.self_attn.q_proj"]);
    assert_eq!(names(r"/.*layers\.[0-2]\..*q_proj/").len(), 3);
    assert_eq!(names(r".*\.(q|v)_proj").len(), 32);
    assert_eq!(names(r".*\.1[0-9]{1,1}\.mlp\.up_proj,k_proj").len(), 6 + 16);
    assert_eq!(names("embed_tokens"), ["model.embed_tokens"]);
    assert_eq!(names("down"), names("down_proj"));
    assert_eq!(names("all-linear").len(), 7 * 16);
    assert_eq!(names("attention").len(), 4 * 16);
    // The end of a word is not the end of a name, and a part of the name is no match of an expression.
    for text in ["proj", "roj", "/q_proj/", "input_layernorm"] {
        let error = Selection::new(&layout, &text.parse().unwrap()).unwrap_err();
        assert_eq!(error.status(), 2, "{text}");
        let there = "it has q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj";
        assert!(error.to_string().ends_with(there), "{error}");
    }
    let partly = Selection::new(&layout, &"q_proj,c_attn".parse().unwrap()).unwrap();
    assert_eq!(partly.notes, ["no module of Llama 3.2 1B matches \"c_attn\""]);
    for text in ["", ",", "/(/", "q_(proj"] {
        assert_eq!(text.parse::<Targets>().unwrap_err().status(), 2, "{text}");
    }
    for text in ["qv", "attention", "all-linear", "q_proj,v_proj", r"/.*q_proj/"] {
        assert_eq!(text.parse::<Targets>().unwrap().to_string(), text);
    }
}

#[test]
fn a_fused_projection_counts_whole_and_says_so() {
    let layout = Layout::preset("gpt2").unwrap();
    let selection = Selection::new(&layout, &Targets::QV).unwrap();
    assert_eq!(selection.per_rank, 12 * (768 + 3 * 768));
    assert!(selection.notes[0].contains("c_attn"), "{:?}", selection.notes);
    assert!(selection.weights(&layout).all(|weight| weight.role == Role::Qkv));
    let error = Selection::new(&layout, &"q_proj,v_proj".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("it has c_attn, c_proj, c_fc"), "{error}");
}

#[test]
fn a_rank_above_a_side_is_counted_as_peft_trains_it() {
    let layout = Layout::preset("llama-3-8b").unwrap();
    let selection = Selection::new(&layout, &Targets::Attention).unwrap();
    assert_eq!(selection.max_rank(), 1024);
    assert!(selection.count(1024).is_ok() && selection.clipped(1024, &layout).is_none());
    // PEFT trains a rank above a module's smaller side all the same, and so it is counted.
    assert_eq!(selection.count(1025).unwrap().trainable, 1025 * selection.per_rank);
    let note = selection.clipped(1025, &layout).unwrap();
    assert!(note.contains("64 modules, such as model.layers.0.self_attn.k_proj of 1024 × 4096"), "{note}");
    // Above every side too: here each pair has its module's smaller side.
    assert_eq!(selection.count(5000).unwrap().trainable, 5000 * selection.per_rank);
    let note = selection.clipped(5000, &layout).unwrap();
    let here = 32 * (2 * 4096 * (4096 + 4096) + 2 * 1024 * (4096 + 1024));
    assert!(note.contains("128 modules") && note.contains(&exact(here)), "{note}");
    assert_eq!(Pairs::uniform(&layout, &selection, 5000).trainable(&layout), here);
    for r in [0, usize::MAX] {
        let error = selection.count(r).unwrap_err();
        assert_eq!(error.status(), 2);
        assert!(error.to_string().starts_with(&format!("rank {r}:")), "{error}");
    }
}

/// The paper's table: exact values of its formulas, and where print and formula part.
#[test]
fn the_papers_table() {
    let table = paper::table();
    let exact =
        |method: &str| -> Vec<u64> { table.iter().filter(|row| row.method == method).map(|row| row.formula).collect() };
    assert_eq!(exact("PrefixEmbed"), [491_520, 884_736, 1_671_168, 3_244_032, 6_389_760]);
    assert_eq!(exact("PrefixLayer"), [4_718_592, 9_437_184, 18_874_368, 42_467_328, 75_497_472]);
    assert_eq!(exact("Adapter H"), [7_078_080, 21_234_432, 40_109_568, 77_859_840, 304_361_472]);
    assert_eq!(
        exact("LoRA"),
        [
            4_718_592,
            4_718_592,
            9_437_184,
            9_437_184,
            18_874_368,
            18_874_368,
            37_748_736,
            37_748_736,
            301_989_888,
            603_979_776
        ]
    );
    assert_eq!(exact("Fine-Tune"), [174_604_259_328]);
    assert_eq!(table.len(), 26);
    for row in table {
        let millions: f64 = row.printed.trim_end_matches('M').replace(',', "").parse().unwrap();
        assert_eq!(row.printed_parameters, (millions * 1e6).round() as u64, "{row:?}");
        // Without a note the print is the formula, rounded to its one digit (cut off, it may be under by a whole one).
        let agrees = format!("{:.1}", row.formula as f64 / 1e6) == format!("{millions:.1}");
        assert_eq!(agrees, row.note.is_none(), "{row:?}");
        assert!((50.0..100.0).contains(&row.wikisql) && (80.0..100.0).contains(&row.mnli), "{row:?}");
    }
    let prefix = table.iter().find(|row| row.setting == "l_p=8, l_i=8").unwrap();
    assert_eq!((prefix.formula, prefix.printed, prefix.difference()), (18_874_368, "20.2M", -1_325_632));
    let best = table.iter().find(|row| row.setting == "r_q=r_v=1").unwrap();
    assert_eq!((best.formula, best.printed, best.wikisql, best.mnli), (4_718_592, "4.7M", 73.4, 91.3));
}
