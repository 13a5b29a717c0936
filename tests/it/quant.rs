//! Weights in a few bits against bitsandbytes 0.50 and gguf 0.19, bit for bit, and their errors.

use rankscope::checkpoint::Checkpoint;
use rankscope::quant::{
    Absmax, Fit, Format, Group, Nested, QuantType, Quantized, Reading, Recipe, Scheme, gguf, measure, q4_0_rule,
};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn folders() -> Vec<PathBuf> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/quant");
    // The whole reference where it is: what tests/fixtures holds is a part of it.
    std::iter::once(fixture)
        .chain(std::env::var_os("RANKSCOPE_REFERENCE").map(|r| Path::new(&r).join("quant")))
        .collect()
}

struct Reference {
    tensors: Checkpoint,
    meta: Value,
}

impl Reference {
    fn open(folder: &Path) -> Self {
        let meta = std::fs::read(folder.join("bitsandbytes.json")).unwrap();
        let tensors = Checkpoint::open(&folder.join("bitsandbytes.safetensors")).unwrap();
        Self { tensors, meta: serde_json::from_slice(&meta).unwrap() }
    }

    fn floats(&self, name: &str) -> Option<Vec<f32>> {
        let tensor = self.tensors.tensor(name)?;
        Some(self.tensors.bytes_of(tensor).unwrap().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
    }

    fn bytes(&self, name: &str) -> Option<&[u8]> {
        Some(self.tensors.bytes_of(self.tensors.tensor(name)?).unwrap())
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn codes_and_scales_are_bitsandbytes_own() {
    for folder in folders() {
        let reference = Reference::open(&folder);
        let weight = reference.floats("weight").unwrap();
        let mut compared = 0;
        for quant_type in [QuantType::Nf4, QuantType::Fp4] {
            for double_quant in [false, true] {
                let tag = format!("{quant_type}{}", if double_quant { "_dq" } else { "" });
                let ours =
                    Quantized::new(&weight, [96, 256], Scheme { quant_type, blocksize: 64, double_quant }).unwrap();
                if let Some(codes) = reference.bytes(&format!("{tag}.codes")) {
                    assert_eq!(ours.codes(), codes, "{tag} codes");
                    compared += 1;
                }
                match ours.absmax() {
                    Absmax::Plain(absmax) => {
                        if let Some(theirs) = reference.floats(&format!("{tag}.absmax")) {
                            assert_eq!(bits(absmax), bits(&theirs), "{tag} absmax");
                        }
                    }
                    Absmax::Nested(nested) => {
                        let meta = &reference.meta[&tag];
                        assert_eq!(nested.offset, meta["offset"].as_f64().unwrap() as f32, "{tag} offset");
                        assert_eq!(meta["nested_blocksize"], Nested::BLOCK);
                        assert_eq!(
                            Some(&nested.codes[..]),
                            reference.bytes(&format!("{tag}.absmax")),
                            "{tag} nested codes"
                        );
                        if let Some(theirs) = reference.floats(&format!("{tag}.nested_absmax")) {
                            assert_eq!(bits(&nested.absmax), bits(&theirs), "{tag} nested absmax");
                        }
                        let map: Vec<f32> = meta["nested_code"]
                            .as_array()
                            .unwrap()
                            .iter()
                            .map(|x| x.as_f64().unwrap() as f32)
                            .collect();
                        assert_eq!(bits(Nested::map()), bits(&map), "dynamic map");
                    }
                }
                if let Some(theirs) = reference.floats(&format!("{tag}.dequantized")) {
                    let mut back = vec![f32::NAN; weight.len()];
                    ours.dequantize(&mut back);
                    // Zero has two signs in FP4's codes, one in its values.
                    assert!(back == theirs, "{tag} dequantized");
                    compared += 1;
                }
                let levels: Vec<f32> = reference.meta[&tag]["code"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|x| x.as_f64().unwrap() as f32)
                    .collect();
                assert_eq!(quant_type.levels()[..], levels[..]);
            }
        }
        assert!(compared >= 4, "only {compared} tensors were there to compare");
    }
}

#[test]
fn any_part_reads_the_same() {
    let values: Vec<f32> = (0..7 * 37).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 300.0).collect();
    let scheme = Scheme { quant_type: QuantType::Nf4, blocksize: 32, double_quant: false };
    let weight = Quantized::new(&values, [7, 37], scheme).unwrap();
    let mut whole = vec![0.0; values.len()];
    weight.dequantize(&mut whole);
    for (start, end) in [(0, 1), (1, 2), (1, 64), (31, 33), (37, 74), (200, 259), (5, 5)] {
        let mut part = vec![0.0; end - start];
        weight.read(start..end, &mut part);
        assert_eq!(part, whole[start..end]);
    }
    assert!(Quantized::new(&values, [7, 37], Scheme { blocksize: 33, ..scheme }).is_err());
    assert!(Quantized::new(&values, [7, 36], scheme).is_err());
}

/// Tensors of tests/fixtures/quant/awkward.safetensors: see README.md there.
struct Awkward(Checkpoint);

impl Awkward {
    fn open() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/quant/awkward.safetensors");
        Self(Checkpoint::open(&path).unwrap())
    }

    fn bytes(&self, name: &str) -> &[u8] {
        self.0.bytes_of(self.0.tensor(name).unwrap_or_else(|| panic!("{name}"))).unwrap()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.bytes(name).as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    }
}

/// A short last block, a row of zeros, denormals, an outlier, values of 1e28, in blocks of 32, 64 and 128.
#[test]
fn awkward_weights_are_bitsandbytes_own() {
    let reference = Awkward::open();
    let weight = reference.floats("weight");
    for quant_type in [QuantType::Nf4, QuantType::Fp4] {
        for blocksize in [32, 64, 128] {
            for double_quant in [false, true] {
                let tag = format!("{quant_type}.{blocksize}{}", if double_quant { ".dq" } else { "" });
                let ours = Quantized::new(&weight, [6, 100], Scheme { quant_type, blocksize, double_quant }).unwrap();
                assert_eq!(ours.codes(), reference.bytes(&format!("{tag}.codes")), "{tag} codes");
                match ours.absmax() {
                    Absmax::Plain(ours) => {
                        assert_eq!(bits(ours), bits(&reference.floats(&format!("{tag}.absmax"))), "{tag} absmax");
                    }
                    Absmax::Nested(ours) => {
                        assert_eq!(ours.codes, reference.bytes(&format!("{tag}.absmax")), "{tag} nested codes");
                    }
                }
                let theirs = reference.floats(&format!("{tag}.dequantized"));
                let mut back = vec![f32::NAN; weight.len()];
                // 100 columns are no whole blocks: bitsandbytes' kernel would read other rows' scales (see below).
                ours.dequantize(&mut back);
                if !Quantized::readings_differ(100, blocksize) {
                    assert!(back == theirs, "{tag} dequantized");
                }
                // The same values, computed from the weight and its scales.
                let format = if quant_type == QuantType::Nf4 { Format::Nf4 } else { Format::Fp4 };
                let recipe = Recipe::with(format, Group::Block(blocksize), double_quant);
                let fit = Fit::new(&weight, [6, 100], recipe).unwrap();
                assert_eq!(fit.dequantize(&weight), back, "{tag} looked at");
                for (at, &value) in weight.iter().enumerate() {
                    let code = ours.codes()[at / 2] >> if at % 2 == 0 { 4 } else { 0 } & 15;
                    assert_eq!(fit.cell(at, value).code, Some(i32::from(code & 15)), "{tag} {at}");
                }
            }
        }
    }
}

/// The largest value negative and doubled, zeros, denormals, scales that half precision cannot hold.
#[test]
fn awkward_weights_are_llama_cpps_own() {
    let reference = Awkward::open();
    let weight = reference.floats("gguf.weight");
    for (format, name) in [(Format::Q4_0, "Q4_0"), (Format::Q4_1, "Q4_1"), (Format::Q8_0, "Q8_0")] {
        let fit = Fit::new(&weight, [8, 64], Recipe::new(format)).unwrap();
        assert_eq!(gguf::bytes(&weight, &fit).unwrap(), reference.bytes(&format!("gguf.{name}.bytes")), "{name}");
        let (ours, theirs) = (fit.dequantize(&weight), reference.floats(&format!("gguf.{name}.dequantized")));
        let same = |(a, b): (&f32, &f32)| a == b || (a.is_nan() && b.is_nan());
        assert!(ours.iter().zip(&theirs).all(same), "{name}");
    }
}

/// The whole reference, where it is: numpy's files have a header of 128 bytes here.
#[test]
fn a_plain_weight_is_llama_cpps_own() {
    let Some(folder) = std::env::var_os("RANKSCOPE_REFERENCE") else { return };
    let read = |name: String| std::fs::read(Path::new(&folder).join("gguf").join(name)).unwrap().split_off(128);
    let floats =
        |name: String| -> Vec<f32> { read(name).as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect() };
    let weight = floats("weight.npy".into());
    for (format, name) in [(Format::Q4_0, "Q4_0"), (Format::Q4_1, "Q4_1"), (Format::Q8_0, "Q8_0")] {
        let fit = Fit::new(&weight, [96, 256], Recipe::new(format)).unwrap();
        assert_eq!(gguf::bytes(&weight, &fit).unwrap(), read(format!("{name}.bytes.npy")), "{name}");
        assert_eq!(fit.dequantize(&weight), floats(format!("{name}.dequantized.npy")), "{name}");
    }
}

fn normal(count: usize) -> Vec<f32> {
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};
    let mut rng = rand::rngs::StdRng::seed_from_u64(7);
    (0..count).map(|_| StandardNormal.sample(&mut rng)).collect()
}

/// Relative RMSE on N(0, 1), 2^19 samples, ±1 %: measured with bitsandbytes 0.50 and numpy, for blocks of 32, 64, 128, 256.
#[test]
fn the_error_on_normal_values_is_the_known_one() {
    let values = normal(1 << 19);
    let of = |format| move |block| Recipe::with(format, Group::Block(block), false);
    type Rule<'a> = &'a dyn Fn(usize) -> Recipe;
    let known: [(Rule, [f64; 4]); 5] = [
        (&of(Format::Nf4), [0.0873, 0.0918, 0.0956, 0.0986]),
        (&of(Format::Fp4), [0.1140, 0.1217, 0.1285, 0.1347]),
        (&of(Format::Int4Symmetric), [0.0971, 0.1075, 0.1174, 0.1263]),
        (&of(Format::Int4Affine), [0.0807, 0.0909, 0.1005, 0.1095]),
        (&q4_0_rule, [0.0859, 0.0948, 0.1032, 0.1109]),
    ];
    for (recipe, expected) in known {
        for (block, expected) in [32, 64, 128, 256].into_iter().zip(expected) {
            let recipe = recipe(block);
            let fit = Fit::new(&values, [1024, 512], recipe).unwrap();
            let found = measure(&values, &fit, &()).unwrap();
            assert!((found.relative_rmse / expected - 1.0).abs() < 0.01, "{recipe}: {}", found.relative_rmse);
        }
    }
}

/// A format with more bits has a smaller error, and a larger block a larger one.
/// tests/fixtures/quant/fp4.safetensors: MXFP4 by gguf 0.19, NVFP4 by compressed-tensors 0.20.1; made by fp4.py.
#[test]
fn fp4_formats_are_the_packages_own() {
    use rankscope::checkpoint::{BlockType, Checkpoint};
    use rankscope::quant::gguf::encode;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/quant/fp4.safetensors");
    let file = Checkpoint::open(&path).unwrap();
    let read = |name: &str| file.tensor_matrix(file.tensor(name).unwrap(), &()).unwrap();
    let weight = read("weight");
    let blocks = encode(BlockType::named("MXFP4").unwrap(), weight.data(), weight.shape()).unwrap();
    assert!(blocks == file.bytes_of(file.tensor("mxfp4").unwrap()).unwrap(), "MXFP4");
    let fit = Fit::new(weight.data(), weight.shape(), Recipe::new(Format::Nvfp4)).unwrap();
    let (found, expected) = (fit.dequantize(weight.data()), read("nvfp4"));
    for (at, (found, expected)) in found.iter().zip(expected.data()).enumerate() {
        // The package divides by a step that is rounded once more: the last bit may differ, a level may not.
        assert!((found - expected).abs() <= 1e-6 * expected.abs(), "{at}: {found} {expected}");
    }
    // Blocks and what is looked at are the same numbers.
    for (format, name) in [(Format::Mxfp4, "MXFP4"), (Format::Iq4Nl, "IQ4_NL")] {
        let fit = Fit::new(weight.data(), weight.shape(), Recipe::new(format)).unwrap();
        let kind = BlockType::named(name).unwrap();
        let bytes = encode(kind, weight.data(), weight.shape()).unwrap();
        assert_eq!(bytes.len() * 8, (fit.bits() * weight.data().len() as f64) as usize, "{name}");
    }
}

#[test]
fn errors_are_ordered() {
    let values = normal(1 << 16);
    let error = |recipe| {
        let fit = Fit::new(&values, [128, 512], recipe).unwrap();
        measure(&values, &fit, &()).unwrap().relative_rmse
    };
    let usual = |format| error(Recipe::new(format));
    let rising =
        [Format::F16, Format::Bf16, Format::Int8, Format::Q6K, Format::Q5K, Format::Q4K, Format::Q3K, Format::Q2K];
    assert!(rising.windows(2).all(|pair| usual(pair[0]) < usual(pair[1])));
    assert!(usual(Format::Q8_0) < usual(Format::Fp8Scaled) && usual(Format::Fp8) < usual(Format::Nf4));
    for format in [Format::Nf4, Format::Int4Affine, Format::Int8] {
        let by_block: Vec<f64> =
            Format::BLOCKS.into_iter().map(|block| error(Recipe::with(format, Group::Block(block), false))).collect();
        assert!(by_block.is_sorted(), "{format}: {by_block:?}");
    }
    let by_group = [Group::Block(64), Group::Row, Group::Tensor];
    let by_group = by_group.map(|group| error(Recipe::with(Format::Int4Symmetric, group, false)));
    assert!(by_group.is_sorted(), "{by_group:?}");
}

/// What is asked for in part is the part of the whole, wherever it begins and ends.
#[test]
fn any_part_of_any_format_reads_the_same() {
    let values = normal(6 * 512);
    for format in Format::ALL {
        for group in [Group::Block(96), Group::Row, Group::Tensor] {
            let fit = Fit::new(&values, [6, 512], Recipe::with(format, group, true)).unwrap();
            let whole = fit.dequantize(&values);
            for range in [0..1, 5..5, 31..33, 95..97, 500..1100, 3071..3072] {
                let mut part = vec![f32::NAN; range.len()];
                fit.read(&values, range.clone(), &mut part);
                assert_eq!(part, whole[range], "{format} {group:?}");
            }
        }
    }
}

/// bitsandbytes 0.50 on the CPU, `dequantize_4bit` of `[64, 160]` in blocks of 64: equal to the bit to
/// `code[c] * absmax[row * (160 // 64) + col // 64]`.
#[test]
fn rows_of_partial_blocks_are_read_as_bitsandbytes_reads_them() {
    let values: Vec<f32> = (0..6 * 160).map(|i| ((i * 7919 % 1009) as f32 - 504.0) * (1 + i / 64) as f32).collect();
    let scheme = Scheme { quant_type: QuantType::Nf4, blocksize: 64, double_quant: false };
    let weight = Quantized::new(&values, [6, 160], scheme).unwrap();
    let theirs = weight.clone().with_reading(Reading::Bitsandbytes);
    let mut back = vec![0.0; values.len()];
    theirs.read(5..values.len(), &mut back[5..]);
    for (at, &found) in back.iter().enumerate().skip(5) {
        let code = weight.codes()[at / 2] >> if at % 2 == 0 { 4 } else { 0 } & 15;
        let block = at / 160 * 2 + at % 160 / 64;
        assert_eq!(found, QuantType::Nf4.levels()[usize::from(code & 15)] * weight.absmax().get(block), "{at}");
    }
}

/// The folder of transformers and bitsandbytes 0.50 (tests/fixtures/llama-bnb4, cut to block 0), tensor by tensor.
#[test]
fn a_saved_folder_is_the_one_that_transformers_saves() {
    use rankscope::checkpoint::Dtype;
    use rankscope::train::prequantized;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let (theirs, base) = (fixtures.join("llama-bnb4"), Checkpoint::open(&fixtures.join("llama")).unwrap());
    let out = tempfile::tempdir().unwrap();
    let scheme = Scheme { quant_type: QuantType::Nf4, blocksize: 64, double_quant: true };
    let written = prequantized::write(&base, scheme, Dtype::F32, &|_| true, out.path(), &()).unwrap();
    assert_eq!(written.modules, 14);
    let (ours, reference) = (Checkpoint::open(out.path()).unwrap(), Checkpoint::open(&theirs).unwrap());
    assert_eq!(ours.parameters(), base.parameters(), "4-bit weights count as what they stand for");
    let mut compared = 0;
    for tensor in reference.tensors() {
        let own = ours.tensor(&tensor.name).unwrap_or_else(|| panic!("{} is missing", tensor.name));
        let (a, b) = (ours.bytes_of(own).unwrap(), reference.bytes_of(tensor).unwrap());
        if tensor.name.contains(".quant_state.") {
            let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
            assert_eq!(json(a), json(b), "{}", tensor.name);
        } else {
            assert_eq!((own.dtype, &own.shape), (tensor.dtype, &tensor.shape), "{}", tensor.name);
            assert!(a == b, "{}", tensor.name);
        }
        compared += 1;
    }
    assert!(compared > 40, "only {compared} tensors were there to compare");
    let config: Value = serde_json::from_slice(&std::fs::read(out.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(config["dtype"], "float32");
    let same: Value = serde_json::from_slice(&std::fs::read(theirs.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["quantization_config"], same["quantization_config"]);
    assert!(out.path().join("tokenizer.json").exists());
    // Over itself, and twice in a row, is refused.
    let refused =
        |base: &Checkpoint, out: &Path| prequantized::write(base, scheme, Dtype::F32, &|_| true, out, &()).unwrap_err();
    assert!(refused(&base, base.path()).to_string().contains("this is the base itself"));
    assert!(refused(&ours, &out.path().join("again")).to_string().contains("quantized already"));
    // A part of the modules: transformers is told which to leave alone.
    let part = tempfile::tempdir().unwrap();
    let some = |module: &rankscope::checkpoint::Module| module.name.contains("mlp");
    assert_eq!(prequantized::write(&base, scheme, Dtype::BF16, &some, part.path(), &()).unwrap().modules, 6);
    let config: Value = serde_json::from_slice(&std::fs::read(part.path().join("config.json")).unwrap()).unwrap();
    let skipped = config["quantization_config"]["llm_int8_skip_modules"].as_array().unwrap();
    assert!(
        skipped.contains(&Value::from("lm_head")) && skipped.contains(&Value::from("model.layers.1.self_attn.q_proj"))
    );
    assert_eq!(config["dtype"], "bfloat16");
}
