//! Adapters in other programs' formats: what was written has the same ΔW when it is read again.

use super::open;
use crate::support::{adapter, f32s, fixture, zeros};
use rankscope::adapter::Adapter;
use rankscope::matrix::Matrix;
use serde_json::json;
use std::collections::HashMap;
use std::path::Path;

fn product(b: &Matrix, a: &Matrix, scaling: f64) -> Vec<f64> {
    let (out, r, inner) = (b.rows(), a.rows(), a.cols());
    let at = |i: usize, j: usize| (0..r).map(|k| f64::from(b.get(i, k)) * f64::from(a.get(k, j))).sum::<f64>();
    (0..out).flat_map(|i| (0..inner).map(move |j| (i, j))).map(|(i, j)| scaling * at(i, j)).collect()
}

fn delta(adapter: &Adapter, module: &str) -> Vec<f64> {
    let layer = adapter.layer(module).unwrap_or_else(|| panic!("no {module}"));
    let (b, a) = adapter.factors(layer).unwrap();
    product(&b, &a, layer.scaling)
}

#[track_caller]
fn alike(found: &[f64], expected: &[f64]) {
    let largest = expected.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    assert!(found.len() == expected.len() && largest > 0.0);
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-6 * largest, "{found} {expected}");
    }
}

#[test]
fn an_adapter_goes_to_mlx_kohya_and_peft_and_comes_back() {
    let base = open("llama");
    // Ranks and scales differ between its modules.
    let adapter = Adapter::open(&fixture("llama-adapter")).unwrap();
    for (format, name) in [("mlx", "mlx-lm"), ("kohya", "kohya"), ("peft", "PEFT")] {
        let folder = tempfile::tempdir().unwrap();
        let made = adapter.export(format, Some(&base), folder.path(), &()).unwrap();
        let path = if format == "kohya" { made.path.clone() } else { folder.path().to_path_buf() };
        let back = Adapter::open(&path).unwrap();
        assert_eq!((back.format, back.layers.len()), (name, adapter.layers.len()));
        assert_eq!(made.notes.len(), if format == "mlx" { 2 } else { 0 }, "{:?}", made.notes);
        for layer in &adapter.layers {
            let module = match format {
                "kohya" => format!("lora_unet_{}", layer.module.replace('.', "_")),
                _ => layer.module.clone(),
            };
            alike(&delta(&back, &module), &delta(&adapter, &layer.module));
        }
    }
}

#[test]
fn what_a_format_cannot_hold_is_named() {
    let saved = adapter(
        &json!({"peft_type": "LORA", "r": 2, "modules_to_save": ["score"]}),
        &[
            f32s("base_model.model.layers.0.q_proj.lora_A.weight", &[2, 4], &[1.0; 8]),
            f32s("base_model.model.layers.0.q_proj.lora_B.weight", &[4, 2], &[1.0; 8]),
            zeros("base_model.model.score.weight", &[3, 4]),
        ],
    );
    let saved = Adapter::open(saved.path()).unwrap();
    let out = tempfile::tempdir().unwrap();
    for format in ["mlx", "kohya", "gguf"] {
        let error = saved.export(format, None, out.path(), &()).unwrap_err();
        assert!(error.to_string().contains("score.weight") && error.status() == 2, "{error}");
    }
    assert!(saved.export("onnx", None, out.path(), &()).unwrap_err().to_string().contains("peft, mlx, kohya, gguf"));
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "nothing is left behind");
}

/// The tensors of a GGUF file by the rules of ggml's docs/gguf.md, and its α.
fn gguf(path: &Path) -> (f32, HashMap<String, Matrix>) {
    let bytes = std::fs::read(path).unwrap();
    let mut at = 0;
    let mut take = |count: usize| {
        at += count;
        bytes[at - count..at].to_vec()
    };
    let number = |bytes: Vec<u8>| bytes.iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte)) as usize;
    assert_eq!((take(4), number(take(4))), (b"GGUF".to_vec(), 3));
    let (tensors, pairs) = (number(take(8)), number(take(8)));
    let mut alpha = 0.0;
    for _ in 0..pairs {
        let length = number(take(8));
        let key = String::from_utf8(take(length)).unwrap();
        match number(take(4)) {
            8 => {
                let length = number(take(8));
                let value = String::from_utf8(take(length)).unwrap();
                let expected = match key.as_str() {
                    "general.architecture" => "llama",
                    "general.type" => "adapter",
                    "adapter.type" => "lora",
                    other => panic!("{other}"),
                };
                assert_eq!(value, expected);
            }
            4 => {
                assert!(key.starts_with("llama.attention.head_count"), "{key}");
                take(4);
            }
            6 => alpha = f32::from_le_bytes(take(4).try_into().unwrap()),
            other => panic!("type {other}"),
        }
    }
    let mut infos = Vec::new();
    for _ in 0..tensors {
        let length = number(take(8));
        let name = String::from_utf8(take(length)).unwrap();
        assert_eq!(number(take(4)), 2);
        let sizes = [number(take(8)), number(take(8))];
        assert_eq!(number(take(4)), 0, "F32");
        infos.push((name, sizes, number(take(8))));
    }
    let data = at.next_multiple_of(32);
    let matrix = |sizes: [usize; 2], offset: usize| {
        let begin = data + offset;
        let values = bytes[begin..begin + 4 * sizes[0] * sizes[1]].as_chunks::<4>().0;
        Matrix::new(sizes[1], sizes[0], values.iter().map(|&x| f32::from_le_bytes(x)).collect()).unwrap()
    };
    (alpha, infos.into_iter().map(|(name, sizes, offset)| (name, matrix(sizes, offset))).collect())
}

#[test]
fn a_gguf_adapter_is_what_llama_cpp_reads() {
    let base = open("llama");
    let adapter = Adapter::open(&fixture("llama-adapter")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let made = adapter.export("gguf", Some(&base), &folder.path().join("a.gguf"), &()).unwrap();
    let (alpha, tensors) = gguf(&made.path);
    assert_eq!((tensors.len(), made.tensors), (2 * adapter.layers.len(), 2 * adapter.layers.len()));
    let heads = base.config().unwrap()["num_attention_heads"].as_u64().unwrap() as usize;
    for layer in &adapter.layers {
        let block = layer.layer.unwrap();
        let (part, heads) = match layer.module.rsplit('.').next().unwrap() {
            "q_proj" => ("attn_q", Some(heads)),
            "k_proj" => ("attn_k", Some(base.config().unwrap()["num_key_value_heads"].as_u64().unwrap() as usize)),
            "v_proj" => ("attn_v", None),
            "o_proj" => ("attn_output", None),
            "gate_proj" => ("ffn_gate", None),
            "up_proj" => ("ffn_up", None),
            _ => ("ffn_down", None),
        };
        let name = format!("blk.{block}.{part}.weight");
        let (a, b) = (&tensors[&format!("{name}.lora_a")], &tensors[&format!("{name}.lora_b")]);
        let found = product(b, a, f64::from(alpha) / a.rows() as f64);
        let expected = delta(&adapter, &layer.module);
        // LlamaModel.permute of llama.cpp's converter: weights.reshape(heads, 2, rows / heads / 2, cols).swapaxes(1, 2).
        let (rows, cols) = (b.rows(), a.cols());
        let expected = match heads {
            None => expected,
            Some(heads) => {
                let half = rows / heads / 2;
                let order =
                    (0..heads).flat_map(|h| (0..half).flat_map(move |i| [h * 2 * half + i, h * 2 * half + half + i]));
                order.flat_map(|row| expected[row * cols..(row + 1) * cols].to_vec()).collect()
            }
        };
        alike(&found, &expected);
    }
    let error = adapter.export("gguf", None, folder.path(), &()).unwrap_err();
    assert!(error.to_string().contains("--base"), "{error}");
}
