//! After training: merged models that are checked, adapters as runtimes take them, models in other formats.

use crate::support::{self, adapter, f32s, fixture, fixtures, rankscope};
use rankscope::adapter::Adapter;
use rankscope::checkpoint::{Checkpoint, Dtype, Kind};
use rankscope::device::Choice;
use rankscope::matrix::Matrix;
use rankscope::model::gpu;
use rankscope::plan::serve::{Effect, Form, RUNTIMES, Runtime};
use rankscope::train::merge::{Change, write_model, write_model_in};
use rankscope::train::merge_check::{Compared, check};
use rankscope::train::repair::repair;
use rankscope::train::{Row, Rows, gguf};
use serde_json::{Value, json};

fn base() -> Checkpoint {
    Checkpoint::open(&fixture("llama")).unwrap()
}

fn rows() -> Rows {
    let row = |first: u32| Row::all((0..24).map(|at| (first + 7 * at) % 320).collect());
    Rows { rows: vec![row(3), row(100), row(251)] }
}

#[test]
fn a_merged_model_is_beside_what_was_trained() {
    let folder = tempfile::tempdir().unwrap();
    let (base, adapter) = (base(), Adapter::open(&fixture("llama-adapter")).unwrap());
    let place = gpu::open(Choice::Cpu, None).unwrap();
    let checked = |dtype: Option<Dtype>, name: &str, adapter: &Adapter| {
        let out = folder.path().join(name);
        write_model(&base, &Change::Adapter(adapter), dtype, &out, &()).unwrap();
        let (merged, rows) = (Checkpoint::open(&out).unwrap(), rows());
        check(&Compared { base: &base, adapter, merged: &merged, rows: &rows, batch: 2, place: &place }, &()).unwrap()
    };
    let exact = checked(Some(Dtype::F32), "f32", &adapter);
    assert_eq!((exact.rows, exact.tokens), (3, 69));
    assert!((exact.merged_loss - exact.adapter_loss).abs() < 1e-5, "{exact}");
    assert!(exact.agreement == 1.0 && exact.requantized_agreement < 1.0);
    assert!((exact.requantized_loss - exact.merged_loss).abs() > 1e-3);
    let rounded = checked(None, "bf16", &adapter);
    assert!((rounded.adapter_loss - exact.adapter_loss).abs() < 1e-9);
    assert_ne!(rounded.merged_loss, exact.merged_loss);
    // A change as small as the last bits of bf16 is lost in them, and that is said.
    let small = folder.path().join("small");
    std::fs::create_dir(&small).unwrap();
    for file in ["adapter_model.safetensors", "adapter_config.json"] {
        std::fs::copy(fixture("llama-adapter").join(file), small.join(file)).unwrap();
    }
    crate::support::change_json(&small.join("adapter_config.json"), |config| config["lora_alpha"] = json!(0.02));
    let lost = checked(None, "lost", &Adapter::open(&small).unwrap());
    assert!(lost.causes.iter().any(|cause| cause.starts_with("BF16 rounding: ")), "{:?}", lost.causes);
    assert!(exact.causes.iter().all(|cause| !cause.starts_with("BF16")), "{:?}", exact.causes);
    // Of an adapter that makes its rows less likely than the base alone the base, or the rows, are the first suspects.
    let other = exact.adapter_loss >= exact.base_loss;
    assert_eq!(exact.causes.iter().any(|cause| cause.starts_with("wrong base or other data")), other);
}

fn verdicts(runtime: &str, adapter: &Adapter, base: Option<&Checkpoint>) -> Vec<(Effect, String)> {
    let found = Runtime::named(runtime).unwrap().verdicts(adapter, base);
    found.into_iter().map(|verdict| (verdict.effect, verdict.text)).collect()
}

/// An adapter of q_proj and v_proj of one block of 8 × 8.
fn small(change: impl FnOnce(&mut Value), more: Vec<crate::support::Stored>) -> (tempfile::TempDir, Adapter) {
    let mut config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]});
    change(&mut config);
    let mut list = more;
    for (number, module) in ["q_proj", "v_proj"].into_iter().enumerate() {
        let name = format!("base_model.model.model.layers.0.self_attn.{module}");
        let value = |at: usize| ((at * 37 + number * 11) % 17) as f32 - 8.0;
        let values: Vec<f32> = (0..16).map(value).collect();
        list.push(f32s(&format!("{name}.lora_A.weight"), &[2, 8], &values));
        list.push(f32s(&format!("{name}.lora_B.weight"), &[8, 2], &values));
    }
    let folder = adapter(&config, &list);
    let opened = Adapter::open(folder.path()).unwrap();
    (folder, opened)
}

#[test]
fn runtimes_say_what_they_do_not_do() {
    assert!(RUNTIMES.iter().all(|runtime| runtime.rules.iter().all(|rule| !rule.source.is_empty())));
    assert!(Runtime::named("tgi").unwrap_err().to_string().contains("peft,vllm,llama.cpp,ollama,mlx,sglang"));
    let (_folder, plain) = small(|_| (), Vec::new());
    assert_eq!(verdicts("vllm", &plain, None), []);
    assert_eq!(verdicts("sglang", &plain, None), []);
    assert_eq!(verdicts("llama.cpp", &plain, None)[0].1, "a file of PEFT: it takes a GGUF file, made for its base");
    assert_eq!(verdicts("mlx", &plain, None).len(), 1);
    let (_folder, rs) = small(|config| config["use_rslora"] = json!(true), Vec::new());
    assert_eq!(verdicts("vllm", &rs, None), []);
    assert_eq!(verdicts("sglang", &rs, None)[0].0, Effect::Differs);
    let (_folder, scaled) = small(|config| config["alpha_pattern"] = json!({"v_proj": 1.5}), Vec::new());
    let found = verdicts("vllm", &scaled, None);
    assert!(found[0].0 == Effect::Differs && found[0].1.contains("v_proj") && found[0].1.contains("alpha_pattern"));
    let head = vec![f32s("base_model.model.lm_head.weight", &[2, 8], &[0.5; 16])];
    let (_folder, saved) = small(|config| config["modules_to_save"] = json!(["lm_head"]), head);
    assert_eq!(verdicts("vllm", &saved, None)[0].0, Effect::Refuses);
    assert_eq!(
        verdicts("sglang", &saved, None)[0],
        (
            Effect::Ignores,
            "lm_head.weight: weights that are saved whole are passed over, or end it where they are a block's".into()
        )
    );
    let (_folder, bias) = small(|config| config["bias"] = json!("all"), Vec::new());
    assert!(verdicts("vllm", &bias, None)[0].1.contains("Adapter bias is not supported"));
    assert!(verdicts("sglang", &bias, None)[0].1.contains("a bias is taken for a factor"));
    let (_folder, pattern) = small(|config| config["target_modules"] = json!(".*_proj"), Vec::new());
    assert_eq!(verdicts("sglang", &pattern, None)[0].0, Effect::Refuses);
    assert_eq!(verdicts("vllm", &pattern, None), []);
    let wide = adapter(
        &json!({"peft_type": "LORA", "r": 64, "lora_alpha": 64}),
        &[
            f32s("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", &[64, 8], &[0.1; 512]),
            f32s("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", &[8, 64], &[0.1; 512]),
        ],
    );
    let wide = Adapter::open(wide.path()).unwrap();
    let found = verdicts("vllm", &wide, None);
    assert!(
        found.len() == 1
            && found[0].0 == Effect::Flag
            && found[0].1.starts_with("rank 64: start it with --max-lora-rank")
    );
    // The text model inside of one that sees has other names there.
    let gemma = Checkpoint::open(&fixture("families/gemma3_whole")).unwrap();
    let mut text = Vec::new();
    for module in gemma.modules().iter().filter(|module| module.name.ends_with("q_proj")) {
        let name = format!("base_model.model.{}", module.name.replace("language_model.", ""));
        let [out, inner] = module.matrix_shape();
        text.push(f32s(&format!("{name}.lora_A.weight"), &[1, inner], &vec![0.1; inner]));
        text.push(f32s(&format!("{name}.lora_B.weight"), &[out, 1], &vec![0.1; out]));
    }
    let text = adapter(&json!({"peft_type": "LORA", "r": 1, "lora_alpha": 2}), &text);
    let text = Adapter::open(text.path()).unwrap();
    assert!(
        verdicts("vllm", &text, Some(&gemma))
            .iter()
            .any(|(effect, text)| { *effect == Effect::Ignores && text.contains("spells these modules otherwise") })
    );
    let out = tempfile::tempdir().unwrap();
    let made = repair(&text, Some(&gemma), Form::Peft, out.path(), &()).unwrap();
    assert!(made.largest < 1e-6 && !made.merged);
    assert_eq!(verdicts("vllm", &Adapter::open(out.path()).unwrap(), Some(&gemma)), []);
}

#[test]
fn a_repaired_copy_says_what_the_adapter_says() {
    // Ranks and scales differ.
    let (base, adapter) = (base(), Adapter::open(&fixture("llama-adapter")).unwrap());
    for (form, runtime) in [
        (Form::Peft, "vllm"),
        (Form::Peft, "sglang"),
        (Form::Gguf, "llama.cpp"),
        (Form::Gguf, "ollama"),
        (Form::Mlx, "mlx"),
    ] {
        assert!(!verdicts(runtime, &adapter, Some(&base)).is_empty(), "{runtime}");
        let out = tempfile::tempdir().unwrap();
        let made = repair(&adapter, Some(&base), form, out.path(), &()).unwrap();
        assert!(made.modules == adapter.layers.len() && made.largest < 1e-5, "{runtime}: {}", made.largest);
        let copy = Adapter::open(&made.path).unwrap();
        assert_eq!(verdicts(runtime, &copy, Some(&base)), [], "{runtime}");
        if form == Form::Peft {
            let config = copy.checkpoint().adapter_config().unwrap();
            assert_eq!(
                (&config["rank_pattern"], &config["alpha_pattern"], &config["use_rslora"]),
                (&json!({}), &json!({}), &json!(false))
            );
            assert_eq!(config["lora_alpha"].as_i64(), Some(16));
        }
    }
    let head = vec![f32s("base_model.model.score.weight", &[2, 8], &[0.5; 16])];
    let (_folder, saved) = small(|config| config["modules_to_save"] = json!(["score"]), head);
    let out = tempfile::tempdir().unwrap();
    let error = repair(&saved, None, Form::Peft, out.path(), &()).unwrap_err().to_string();
    assert!(error.contains("score.weight is saved whole") && error.contains("--base"), "{error}");
}

/// A GGUF adapter without heads, as llama.cpp's script writes it: beside the base its rows are in order.
#[test]
fn a_gguf_adapter_opens_with_its_base() {
    let (base, adapter) = (base(), Adapter::open(&fixture("llama-adapter")).unwrap());
    let out = tempfile::tempdir().unwrap();
    let made = adapter.export("gguf", Some(&base), out.path(), &()).unwrap();
    let mut bytes = std::fs::read(&made.path).unwrap();
    for key in [b"llama.attention.head_count_kv".as_slice(), b"llama.attention.head_count".as_slice()] {
        let at = bytes.windows(key.len()).position(|window| window == key).unwrap();
        bytes[at..at + 5].copy_from_slice(b"other");
    }
    let script = out.path().join("script.gguf");
    std::fs::write(&script, &bytes).unwrap();
    let plain = Adapter::open(&script).unwrap();
    assert_eq!((plain.format, plain.layers.len()), ("GGUF", adapter.layers.len()));
    assert_eq!(plain.layers.iter().filter(|layer| layer.turned).count(), 4);
    assert!(plain.notes()[0].contains("llama.cpp's order"), "{:?}", plain.notes());
    let merged = |adapter: &Adapter, name: &str| {
        let folder = out.path().join(name);
        write_model(&base, &Change::Adapter(adapter), Some(Dtype::F32), &folder, &()).unwrap();
        Checkpoint::open(&folder).unwrap()
    };
    let (expected, found) = (merged(&adapter, "expected"), merged(&plain, "found"));
    for module in expected.modules() {
        let [a, b] = [&expected, &found].map(|model| model.matrix(model.module(&module.name).unwrap(), &()).unwrap());
        let most = a.data().iter().zip(b.data()).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(most < 1e-5, "{}: {most}", module.name);
    }
    let error = plain.export("peft", None, &out.path().join("x"), &()).unwrap_err().to_string();
    assert!(error.contains("--base"), "{error}");
}

fn weight(model: &Checkpoint, name: &str) -> Matrix {
    model.matrix(model.module(name).unwrap_or_else(|| panic!("no {name}")), &()).unwrap()
}

#[test]
fn a_model_goes_to_gguf_and_comes_back() {
    let (base, adapter) = (base(), Adapter::open(&fixture("llama-adapter")).unwrap());
    let out = tempfile::tempdir().unwrap();
    let merged = out.path().join("merged");
    write_model(&base, &Change::Adapter(&adapter), Some(Dtype::F32), &merged, &()).unwrap();
    let merged = Checkpoint::open(&merged).unwrap();
    // How far a type is from noise with heavy tails in rows of 64: as measured, and half as much again.
    for (kind, limit) in [
        ("f32", 0.0),
        ("f16", 5e-4),
        ("bf16", 4e-3),
        ("q8_0", 8e-3),
        ("q5_1", 0.06),
        ("q4_0", 0.15),
        ("q4_k_m", 0.08),
        ("iq4_xs", 0.12),
        ("mxfp4", 0.2),
    ] {
        let made = gguf::write(&base, &Change::Adapter(&adapter), kind, &out.path().join(format!("{kind}.gguf")), &())
            .unwrap();
        let back = Checkpoint::open(&made.path).unwrap();
        assert_eq!((back.kind(), back.architecture()), (Kind::Model, Some("LlamaForCausalLM")));
        assert!(made.bytes > back.bytes() && made.tensors >= back.tensors().len());
        for module in merged.modules() {
            let (a, b) = (weight(&merged, &module.name), weight(&back, &module.name));
            let apart =
                Matrix::from_fn(a.rows(), a.cols(), |i, j| a.get(i, j) - b.get(i, j)).frobenius() / a.frobenius();
            assert!(apart <= limit, "{kind} {}: {apart}", module.name);
        }
        let (ours, theirs) = (base.spec().unwrap(), back.spec().unwrap());
        assert_eq!((ours.hidden, ours.vocab, ours.blocks.len()), (theirs.hidden, theirs.vocab, theirs.blocks.len()));
    }
    let names = |kind: &str| {
        let back = Checkpoint::open(&out.path().join(format!("{kind}.gguf"))).unwrap();
        let mut names: Vec<String> = back.dtypes().keys().map(ToString::to_string).collect();
        names.sort();
        names
    };
    // Rows of 64 are no super-blocks: what llama.cpp falls back to.
    assert_eq!(names("q4_k_m"), ["F32", "Q5_0", "Q8_0"]);
    assert_eq!(names("q8_0"), ["F32", "Q8_0"]);
    // And back to a folder, with the tokenizer that lies in the file.
    let folder = out.path().join("folder");
    let gguf = Checkpoint::open(&out.path().join("f32.gguf")).unwrap();
    write_model(&gguf, &Change::Nothing, Some(Dtype::F32), &folder, &()).unwrap();
    let back = Checkpoint::open(&folder).unwrap();
    assert_eq!(weight(&back, "model.layers.1.self_attn.q_proj"), weight(&merged, "model.layers.1.self_attn.q_proj"));
    assert!(folder.join("tokenizer.json").exists());
    let text = |path: &std::path::Path| {
        let model = Checkpoint::open(path).unwrap();
        rankscope::train::Text::of(&model, None).unwrap().ids("the rank of a matrix, 12 tales: \"yes\"\nno").unwrap()
    };
    assert_eq!(text(&folder), text(&fixture("llama")));
    let error =
        gguf::write(&Checkpoint::open(&fixture("gpt2")).unwrap(), &Change::Nothing, "f16", &folder, &()).unwrap_err();
    assert!(error.to_string().contains("gpt2") && error.status() == 2, "{error}");
}

#[test]
fn llama_3s_rotary_scaling_goes_through_a_gguf_file() {
    let copy = crate::support::copy("llama");
    let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
    crate::support::change_json(&copy.path().join("config.json"), |config| {
        config["rope_scaling"] = scaling.clone();
        config["rope_theta"] = json!(500_000.0);
        config.as_object_mut().unwrap().remove("rope_parameters");
    });
    let base = Checkpoint::open(copy.path()).unwrap();
    let made = gguf::write(&base, &Change::Nothing, "f16", copy.path(), &()).unwrap();
    let back = Checkpoint::open(&made.path).unwrap();
    assert_eq!(back.config().unwrap()["rope_scaling"], scaling);
    assert_eq!(format!("{:?}", back.spec().unwrap().ropes), format!("{:?}", base.spec().unwrap().ropes));
}

#[test]
fn what_is_large_is_written_in_parts() {
    let (base, out) = (base(), tempfile::tempdir().unwrap());
    write_model_in(&base, &Change::Nothing, None, out.path(), 100_000, &()).unwrap();
    let parts = std::fs::read_dir(out.path()).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name().to_string_lossy().into_owned();
        name.starts_with("model-") && name.ends_with(".safetensors")
    });
    assert!(parts.count() > 2);
    let back = Checkpoint::open(out.path()).unwrap();
    assert_eq!((back.parameters(), back.bytes()), (base.parameters(), base.bytes()));
    for module in base.modules() {
        assert_eq!(weight(&back, &module.name), weight(&base, &module.name), "{}", module.name);
    }
}

/// 70 billion parameters in Q4_0, of which nothing but the header is on the disk.
#[test]
fn a_model_of_70b_is_open_at_once() {
    let (folder, hidden, width, blocks) = (tempfile::tempdir().unwrap(), 8192u64, 28672u64, 80u64);
    let path = folder.path().join("large.gguf");
    let mut tensors: Vec<(String, [u64; 2])> =
        vec![("token_embd.weight".into(), [hidden, 128_256]), ("output.weight".into(), [hidden, 128_256])];
    for block in 0..blocks {
        for (name, sizes) in [
            ("attn_q", [hidden, hidden]),
            ("attn_k", [hidden, 1024]),
            ("attn_v", [hidden, 1024]),
            ("attn_output", [hidden, hidden]),
            ("ffn_gate", [hidden, width]),
            ("ffn_up", [hidden, width]),
            ("ffn_down", [width, hidden]),
        ] {
            tensors.push((format!("blk.{block}.{name}.weight"), sizes));
        }
    }
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let mut head = b"GGUF".to_vec();
    head.extend(3u32.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend(6u64.to_le_bytes());
    text(&mut head, "general.architecture");
    head.extend(8u32.to_le_bytes());
    text(&mut head, "llama");
    for (key, value) in [
        ("block_count", 80u32),
        ("embedding_length", 8192),
        ("feed_forward_length", 28672),
        ("attention.head_count", 64),
        ("attention.head_count_kv", 8),
    ] {
        text(&mut head, &format!("llama.{key}"));
        head.extend(4u32.to_le_bytes());
        head.extend(value.to_le_bytes());
    }
    let mut offset = 0u64;
    for (name, sizes) in &tensors {
        text(&mut head, name);
        head.extend(2u32.to_le_bytes());
        sizes.iter().for_each(|size| head.extend(size.to_le_bytes()));
        head.extend(2u32.to_le_bytes());
        head.extend(offset.to_le_bytes());
        offset += sizes[0] * sizes[1] / 32 * 18;
    }
    head.resize(head.len().next_multiple_of(32), 0);
    std::fs::write(&path, &head).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(head.len() as u64 + offset).unwrap();
    let begin = std::time::Instant::now();
    let model = Checkpoint::open(&path).unwrap();
    let took = begin.elapsed().as_secs_f64();
    assert_eq!(model.parameters(), 70_552_387_584);
    // Without optimization, beside other tests; `a second` is held by the optimized build.
    assert!(took < 5.0, "{took} s");
    let down = model.module("model.layers.79.mlp.down_proj").unwrap();
    assert_eq!(down.shape, [8192, 28672]);
}

/// An adapter with the names of the base's file, as programs wrote it that knew no other: PEFT would leave all of it out.
#[test]
fn names_of_the_file_are_mended_where_the_class_has_others() {
    for (family, file, class) in [
        ("qwen2_5_vl", "model.layers.", "model.language_model.layers."),
        ("nemotron_h", "backbone.layers.", "model.layers."),
    ] {
        let path = |name: &str| fixtures().join("families").join(name);
        let folder = tempfile::tempdir().unwrap();
        let [old, new] = ["old", "new"].map(|name| folder.path().join(name));
        std::fs::create_dir(&old).unwrap();
        let peft = path(&format!("{family}-adapter"));
        std::fs::copy(peft.join("adapter_config.json"), old.join("adapter_config.json")).unwrap();
        let bytes = std::fs::read(peft.join("adapter_model.safetensors")).unwrap();
        let (header, data) = bytes[8..].split_at(u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize);
        let header: serde_json::Value = serde_json::from_slice(header).unwrap();
        let tensors = header.as_object().unwrap().iter();
        let renamed: serde_json::Map<String, serde_json::Value> =
            tensors.map(|(name, value)| (name.replace(class, file), value.clone())).collect();
        let header = serde_json::Value::Object(renamed).to_string();
        std::fs::write(old.join("adapter_model.safetensors"), support::file(&header, data)).unwrap();
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let (base, from, to) = (text(&path(family)), text(&old), text(&new));
        let ran = rankscope(&["doctor", &from, "--base", &base, "--for", "peft", "--repair", &to]);
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        let said = &ran.stdout;
        assert!(said.contains(&format!("have the names of the base's file, such as {file}")), "{said}");
        assert!(said.contains("peft: ignores: ") && said.contains("doctor --for peft --repair"), "{said}");
        let names = |folder: &std::path::Path| -> Vec<String> {
            let adapter = Adapter::open(folder).unwrap();
            adapter.layers.iter().filter(|layer| layer.experts.is_none()).map(|layer| layer.module.clone()).collect()
        };
        assert!(names(&old).iter().all(|name| name.starts_with(file)), "{family}");
        // Nemotron-H's pairs of experts go into a merged model.
        if family == "qwen2_5_vl" {
            assert_eq!(names(&new), names(&peft), "{family}");
            let ran = rankscope(&["doctor", &to, "--base", &base, "--for", "peft"]);
            let said = &ran.stdout;
            assert!(said.contains("peft: applies all of it") && !said.contains("names of the base's file"), "{said}");
        }
    }
}
