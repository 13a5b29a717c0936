//! 4-bit weights against bitsandbytes 0.50, bit for bit.

use rankscope::checkpoint::Checkpoint;
use rankscope::quant::{Absmax, Nested, QuantType, Quantized, Reading, Scheme};
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

/// formulas.md: relative RMSE on N(0, 1), ±1 %; the numbers were measured with bitsandbytes 0.50.
#[test]
fn the_error_on_normal_values_is_the_known_one() {
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};
    let mut rng = rand::rngs::StdRng::seed_from_u64(7);
    let values: Vec<f32> = (0..1 << 19).map(|_| StandardNormal.sample(&mut rng)).collect();
    for (blocksize, nf4, fp4) in
        [(32, 0.0873, 0.1140), (64, 0.0918, 0.1217), (128, 0.0956, 0.1285), (256, 0.0986, 0.1347)]
    {
        for (quant_type, expected) in [(QuantType::Nf4, nf4), (QuantType::Fp4, fp4)] {
            let weight =
                Quantized::new(&values, [1024, 512], Scheme { quant_type, blocksize, double_quant: false }).unwrap();
            let mut back = vec![0.0; values.len()];
            weight.dequantize(&mut back);
            let square = |x: f32| f64::from(x) * f64::from(x);
            let error: f64 = values.iter().zip(&back).map(|(&a, &b)| square(a - b)).sum();
            let relative = (error / values.iter().map(|&x| square(x)).sum::<f64>()).sqrt();
            assert!((relative / expected - 1.0f64).abs() < 0.01, "{quant_type} block {blocksize}: {relative}");
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
