//! [`Rope`]: the frequencies of a rotary embedding, from either spelling of the config.
//!
//! `f_i = θ^(−2i/d)`, then by the type of scaling, as transformers computes it:
//!
//! ```text
//! linear     f / factor
//! dynamic    θ · (factor · n / most − factor + 1)^(d / (d − 2)) in the place of θ, for sequences of n tokens beyond most
//! llama3     f / factor for wavelengths beyond original/low, f below original/high, a blend between
//! yarn       a ramp over i from f to f / factor, between the pairs that turn β_fast and β_slow times; cos and sin · (0.1 ln factor + 1)
//! longrope   f / short_i, or f / long_i for sequences beyond original; cos and sin · √(1 + ln factor / ln original)
//! ```

use serde_json::Value;
use std::borrow::Cow;

/// A rotary embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Radians a position, for pairs of dimensions.
    pub frequencies: Vec<f32>,
    /// Others for long sequences.
    pub beyond: Option<Beyond>,
    /// Multiplies cosines and sines: 1 but for yarn and longrope.
    pub scale: f32,
    /// Dimensions `2i` and `2i + 1` turn together; otherwise `i` and `i + n/2` (of `n` that turn).
    pub interleaved: bool,
}

/// What a long sequence turns by.
#[derive(Clone, Debug, PartialEq)]
pub enum Beyond {
    /// These, where it has more than so many tokens (longrope).
    Fixed(usize, Vec<f32>),
    /// Those of a base that grows with its length (dynamic NTK).
    Growing {
        /// Up to so many tokens the base is `theta`.
        most: usize,
        /// How fast it grows.
        factor: f32,
        /// The base.
        theta: f32,
        /// Dimensions that turn.
        dims: usize,
    },
}

/// What a config says of positions beside the scaling's own parameters.
#[derive(Clone, Copy, Debug)]
pub struct Positions {
    /// `max_position_embeddings`.
    pub most: usize,
    /// `original_max_position_embeddings`, where it stands beside the scaling; it then counts more than the scaling's.
    pub original: Option<usize>,
}

/// What the parameters of a scaling say.
struct Parameters<'a>(&'a Value);

impl Parameters<'_> {
    fn number_maybe(&self, key: &str) -> Result<Option<f64>, String> {
        let Some(found) = self.0.get(key).filter(|found| !found.is_null()) else { return Ok(None) };
        let number = found.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        number.map(Some).ok_or_else(|| format!("rope scaling with {key} {found}, expected a number above 0"))
    }

    fn number(&self, key: &str) -> Result<f64, String> {
        self.number_maybe(key)?.ok_or_else(|| format!("rope scaling without {key}, expected a number above 0"))
    }

    /// A factor for each of `count` pairs.
    fn factors(&self, key: &str, count: usize) -> Result<Vec<f32>, String> {
        let list = self.0.get(key).and_then(Value::as_array);
        let list = list.ok_or_else(|| format!("rope scaling without {key}, expected a list of {count} numbers"))?;
        let numbers: Option<Vec<f32>> =
            list.iter().map(|x| x.as_f64().map(|x| x as f32).filter(|x| x.is_finite() && *x > 0.0)).collect();
        numbers
            .filter(|numbers| numbers.len() == count)
            .ok_or_else(|| format!("rope scaling with a {key} of {}, expected {count} numbers above 0", list.len()))
    }

    fn original(&self, positions: Positions) -> Result<f64, String> {
        match positions.original {
            Some(original) => Ok(original as f64),
            None => Ok(self.number_maybe("original_max_position_embeddings")?.unwrap_or(positions.most as f64)),
        }
    }
}

impl Rope {
    /// From base `theta` over `dims` dimensions, and the parameters of its scaling; says what is not supported.
    pub fn new(theta: f64, dims: usize, parameters: Option<&Value>, positions: Positions) -> Result<Self, String> {
        let powers = powers(theta as f32, dims);
        let frequencies = powers.iter().map(|power| 1.0 / power).collect();
        let mut rope = Self { frequencies, beyond: None, scale: 1.0, interleaved: false };
        let Some(raw) = parameters.filter(|value| value.is_object()) else { return Ok(rope) };
        let text = |key: &str| raw.get(key).and_then(Value::as_str);
        let parameters = Parameters(raw);
        let number = |key: &str| parameters.number(key);
        match text("rope_type").or_else(|| text("type")).unwrap_or("default") {
            "default" => {}
            "dynamic" if dims > 2 => {
                let (most, factor) = (positions.most, number("factor")? as f32);
                rope.beyond = Some(Beyond::Growing { most, factor, theta: theta as f32, dims });
            }
            "dynamic" => return Err(format!("dynamic rope scaling over {dims} dimensions, expected more than 2")),
            "linear" => {
                let factor = number("factor")? as f32;
                rope.frequencies.iter_mut().for_each(|frequency| *frequency /= factor);
            }
            "llama3" => {
                let (factor, low, high) = (number("factor")?, number("low_freq_factor")?, number("high_freq_factor")?);
                let original = parameters.original(positions)?;
                for frequency in &mut rope.frequencies {
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
            "yarn" => rope.yarn(theta, dims, &powers, &parameters, positions)?,
            "longrope" => rope.longrope(&powers, &parameters, positions)?,
            other => {
                let supported = "default, linear, dynamic, llama3, yarn, longrope";
                return Err(format!("rope scaling of type {other:?}; supported are {supported}"));
            }
        }
        Ok(rope)
    }

    /// A share of a head's pairs turns by the frequencies that it would have if all did, the others do not (Gemma 4).
    pub fn proportional(theta: f64, head_dim: usize, share: f64, factor: f64) -> Self {
        let turned = (share * head_dim as f64) as usize / 2;
        let of = |(pair, power): (usize, f32)| if pair < turned { 1.0 / power / factor as f32 } else { 0.0 };
        let frequencies = powers(theta as f32, head_dim).into_iter().enumerate().map(of).collect();
        Self { frequencies, beyond: None, scale: 1.0, interleaved: false }
    }

    /// arXiv 2309.00071.
    fn yarn(
        &mut self,
        theta: f64,
        dims: usize,
        powers: &[f32],
        parameters: &Parameters,
        positions: Positions,
    ) -> Result<(), String> {
        let original = parameters.original(positions)?;
        let factor = parameters.number_maybe("factor")?.unwrap_or(positions.most as f64 / original);
        let scaled = |times: f64| if factor <= 1.0 { 1.0 } else { 0.1 * times * factor.ln() + 1.0 };
        let (mscale, of_all) = (parameters.number_maybe("mscale"), parameters.number_maybe("mscale_all_dim"));
        let usual = match (mscale, of_all) {
            (Ok(Some(mscale)), Ok(Some(of_all))) => scaled(mscale) / scaled(of_all),
            // 0 means that there is none.
            _ => scaled(1.0),
        };
        self.scale = parameters.number_maybe("attention_factor")?.unwrap_or(usual) as f32;
        let fast = parameters.number_maybe("beta_fast")?.unwrap_or(32.0);
        let slow = parameters.number_maybe("beta_slow")?.unwrap_or(1.0);
        // The pair that turns so often within the original length.
        let pair = |turns: f64| dims as f64 * (original / (turns * std::f64::consts::TAU)).ln() / (2.0 * theta.ln());
        let (mut low, mut high) = (pair(fast), pair(slow));
        if parameters.0.get("truncate").and_then(Value::as_bool).unwrap_or(true) {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dims as f64 - 1.0));
        if low == high {
            high += 0.001;
        }
        for (i, (frequency, power)) in self.frequencies.iter_mut().zip(powers).enumerate() {
            let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
            let kept = 1.0 - ramp;
            *frequency = 1.0 / (factor as f32 * power) * (1.0 - kept) + 1.0 / power * kept;
        }
        Ok(())
    }

    /// arXiv 2402.13753, as Phi-3 uses it.
    fn longrope(&mut self, powers: &[f32], parameters: &Parameters, positions: Positions) -> Result<(), String> {
        let original = parameters.original(positions)?;
        let factor = parameters.number_maybe("factor")?.unwrap_or(positions.most as f64 / original);
        let usual = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() };
        self.scale = parameters.number_maybe("attention_factor")?.unwrap_or(usual) as f32;
        let scaled = |key: &str| -> Result<Vec<f32>, String> {
            let factors = parameters.factors(key, powers.len())?;
            Ok(factors.iter().zip(powers).map(|(factor, power)| 1.0 / (factor * power)).collect())
        };
        self.frequencies = scaled("short_factor")?;
        self.beyond = Some(Beyond::Fixed(original as usize, scaled("long_factor")?));
        Ok(())
    }

    /// The frequencies of a sequence of so many tokens.
    pub fn frequencies_of(&self, tokens: usize) -> Cow<'_, [f32]> {
        match &self.beyond {
            Some(Beyond::Fixed(most, frequencies)) if tokens > *most => Cow::Borrowed(frequencies),
            Some(Beyond::Growing { most, factor, theta, dims }) if tokens > *most => {
                let grown = factor * tokens as f32 / *most as f32 - (factor - 1.0);
                let theta = theta * grown.powf(*dims as f32 / (*dims as f32 - 2.0));
                powers(theta, *dims).iter().map(|power| 1.0 / power).collect()
            }
            _ => Cow::Borrowed(&self.frequencies),
        }
    }

    /// Whether sequences of these lengths turn by the same frequencies.
    pub fn same_for(&self, one: usize, other: usize) -> bool {
        match &self.beyond {
            None => true,
            Some(Beyond::Fixed(most, _)) => (one > *most) == (other > *most),
            Some(Beyond::Growing { most, .. }) => one.max(*most) == other.max(*most),
        }
    }

    /// Whether a sequence can grow to another length without being read again: transformers keeps the keys that have turned by
    /// the frequencies of a shorter sequence where the base grows, and drops them where longrope begins.
    pub fn keeps_keys(&self, now: usize, then: usize) -> bool {
        self.is_growing() || self.same_for(now, then)
    }

    /// There is no longest sequence.
    pub fn is_growing(&self) -> bool {
        matches!(self.beyond, Some(Beyond::Growing { .. }))
    }
}

/// `θ^(2i/d)`: in f32, step by step as transformers does it.
fn powers(theta: f32, dims: usize) -> Vec<f32> {
    (0..dims / 2).map(|i| theta.powf((2 * i) as f32 / dims as f32)).collect()
}

/// Slopes of attention with linear biases, head by head (arXiv 2108.12409): powers of `2^(−8/n)`, `n` the largest power of
/// two that is no more than `heads`; further heads take every second power of `2^(−4/n)`.
pub fn alibi_slopes(heads: usize) -> Vec<f32> {
    let closest = 1usize << heads.max(1).ilog2();
    let base = 2f64.powf(-8.0 / closest as f64);
    let between = 2f64.powf(-4.0 / closest as f64);
    let first = (1..=closest).map(|power| base.powi(power as i32) as f32);
    let rest = (0..heads - closest.min(heads)).map(|at| between.powi(2 * at as i32 + 1) as f32);
    first.chain(rest).collect()
}
