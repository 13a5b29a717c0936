//! [`Rope`]: the frequencies of a rotary embedding, from either spelling of the config.

use super::ops::rope::Table;
use serde_json::Value;

/// A rotary embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Radians a position, for pairs of dimensions.
    pub frequencies: Vec<f32>,
}

impl Rope {
    /// From base `theta` over `dims` dimensions, and the parameters of its scaling; says what is not supported.
    pub fn new(theta: f64, dims: usize, parameters: Option<&Value>) -> Result<Self, String> {
        // In f32, step by step as transformers does it.
        let plain = (0..dims / 2).map(|i| 1.0 / (theta as f32).powf((2 * i) as f32 / dims as f32));
        let mut frequencies: Vec<f32> = plain.collect();
        let Some(parameters) = parameters.filter(|value| value.is_object()) else { return Ok(Self { frequencies }) };
        let text = |key: &str| parameters.get(key).and_then(Value::as_str);
        let number = |key: &str| {
            let found = parameters.get(key).and_then(Value::as_f64).filter(|x| x.is_finite() && *x > 0.0);
            found.ok_or_else(|| format!("rope scaling without {key}, expected a number above 0"))
        };
        match text("rope_type").or_else(|| text("type")).unwrap_or("default") {
            // Dynamic scaling changes nothing up to max_position_embeddings, and longer sequences are refused.
            "default" | "dynamic" => {}
            "linear" => {
                let factor = number("factor")? as f32;
                frequencies.iter_mut().for_each(|frequency| *frequency /= factor);
            }
            "llama3" => {
                let (factor, low, high) = (number("factor")?, number("low_freq_factor")?, number("high_freq_factor")?);
                let original = number("original_max_position_embeddings")?;
                for frequency in &mut frequencies {
                    let f = f64::from(*frequency);
                    let length = std::f64::consts::TAU / f;
                    if length > original / low {
                        *frequency = (f / factor) as f32;
                    } else if length >= original / high {
                        let smooth = (original / length - low) / (high - low);
                        *frequency = ((1.0 - smooth) * f / factor + smooth * f) as f32;
                    }
                }
            }
            other => return Err(format!("rope scaling of type {other:?}; supported are default, linear, llama3")),
        }
        Ok(Self { frequencies })
    }

    /// Cosines and sines for sequences of up to `positions`.
    pub fn table(&self, positions: usize) -> Table {
        Table::new(&self.frequencies, positions, 1.0)
    }
}
