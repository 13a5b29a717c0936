//! Weights in 4-bit codes.

use super::open;
use crate::support::{f32s, model, raw};
use rankscope::checkpoint::{Checkpoint, Dtype};
use serde_json::{Value, json};
use std::path::PathBuf;

#[test]
fn four_bit_weights_come_back() {
    let (quantized, base) = (open("llama-bnb4"), open("llama"));
    let mut checked = 0;
    for module in quantized.modules().iter().filter(|m| m.linear) {
        let whole = base.module(&module.name).unwrap();
        assert_eq!((module.dtype, &module.shape, module.parameters), (Dtype::NF4, &whole.shape, whole.parameters));
        let (found, expected) = (quantized.matrix(module, &()).unwrap(), base.matrix(whole, &()).unwrap());
        let error: f64 = found.data().iter().zip(expected.data()).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let relative = error.sqrt() / expected.frobenius();
        // 0.0918 for N(0, 1) in blocks of 64, and a little for the doubly quantized scales.
        assert!((0.08..0.105).contains(&relative), "{}: {relative}", module.name);
        checked += 1;
    }
    assert_eq!(checked, 7);
    // Python's struct on the stored bytes, by bitsandbytes' formula: elements 0, 1, 327 and 4095 of the flattened weight.
    let q = quantized.module("model.layers.0.self_attn.q_proj").unwrap();
    let matrix = quantized.matrix(q, &()).unwrap();
    let expected = [-0.09445122667779329, 0.11220768547621614, 0.16452000438746558, 0.0];
    for (at, expected) in [0, 1, 327, 4095].into_iter().zip(expected) {
        assert!((f64::from(matrix.data()[at]) - expected).abs() < 1e-7, "{at}");
    }
    assert_eq!(quantized.rows(q, 5..7).unwrap().row(1), matrix.row(6));
    assert!(quantized.modules().iter().all(|m| !m.name.contains("absmax") && !m.name.contains("quant")));
}

/// FP4 without double quantization, by hand: blocks of 4, codes by bitsandbytes' table.
#[test]
fn fp4_by_hand() {
    let table = [0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0].map(|x: f32| x / 12.0);
    let code: Vec<f32> = table.iter().copied().chain(table.iter().map(|x| -x)).collect();
    let state = json!({"quant_type": "fp4", "blocksize": 4, "dtype": "bfloat16", "shape": [2, 3]}).to_string();
    let folder = model(
        &json!({"model_type": "llama"}),
        &[
            raw("a.q_proj.weight", "U8", &[3, 1], &[0x3a, 0x01, 0xb5]),
            f32s("a.q_proj.weight.absmax", &[2], &[12.0, 24.0]),
            f32s("a.q_proj.weight.quant_map", &[16], &code),
            raw("a.q_proj.weight.quant_state.bitsandbytes__fp4", "U8", &[state.len()], state.as_bytes()),
        ],
    );
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let [module] = checkpoint.modules() else { panic!("one weight, three tensors beside it") };
    assert_eq!((module.dtype, module.shape.as_slice(), module.parameters), (Dtype::FP4, [2, 3].as_slice(), 6));
    assert_eq!(checkpoint.parameters(), 6);
    assert_eq!(module.epsilon(), 0.0078125, "of the bfloat16 that it was made from");
    let matrix = checkpoint.matrix(module, &()).unwrap();
    assert_eq!(matrix.data(), [12.0, -8.0, 0.0, 0.0625, -24.0, 12.0]);
}

/// With `RANKSCOPE_REFERENCE`: NF4 and FP4, with and without double quantization, to the bit as bitsandbytes has them back.
#[test]
fn four_bit_values_are_those_of_bitsandbytes() {
    let Some(folder) = std::env::var_os("RANKSCOPE_REFERENCE").map(|folder| PathBuf::from(folder).join("quant")) else {
        eprintln!("skipped: RANKSCOPE_REFERENCE is not set");
        return;
    };
    let meta: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("bitsandbytes.json")).unwrap()).unwrap();
    let stored = Checkpoint::open(&folder.join("bitsandbytes.safetensors")).unwrap();
    let numbers =
        |list: &Value| list.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect::<Vec<_>>();
    for (tag, meta) in meta.as_object().unwrap() {
        let tensor = |part: &str| stored.tensor(&format!("{tag}.{part}"));
        let copy = |name: &str, dtype, part: &str| {
            let tensor = tensor(part).unwrap();
            raw(name, dtype, &tensor.shape, stored.bytes_of(tensor).unwrap())
        };
        let kind = tag.split('_').next().unwrap();
        let mut state =
            json!({"quant_type": kind, "blocksize": meta["blocksize"], "dtype": "float32", "shape": [96, 256]});
        let mut list =
            vec![copy("w.weight", "U8", "codes"), f32s("w.weight.quant_map", &[16], &numbers(&meta["code"]))];
        if let Some(nested) = meta.get("nested_blocksize") {
            state["nested_blocksize"] = nested.clone();
            state["nested_offset"] = meta["offset"].clone();
            list.push(copy("w.weight.absmax", "U8", "absmax"));
            list.push(copy("w.weight.nested_absmax", "F32", "nested_absmax"));
            list.push(f32s("w.weight.nested_quant_map", &[256], &numbers(&meta["nested_code"])));
        } else {
            list.push(copy("w.weight.absmax", "F32", "absmax"));
        }
        let state = state.to_string();
        list.push(raw(&format!("w.weight.quant_state.bitsandbytes__{kind}"), "U8", &[state.len()], state.as_bytes()));
        let folder = model(&Value::Null, &list);
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let found = checkpoint.matrix(&checkpoint.modules()[0], &()).unwrap();
        let expected = stored.tensor_matrix(tensor("dequantized").unwrap(), &()).unwrap();
        assert_eq!(found, expected, "{tag}");
    }
}
