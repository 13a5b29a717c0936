//! [`Value`]: a type of setting, read from a text and written as one, the same for every reader.

use super::about::Choice;
use super::{Init, Method, Quant, ReportTo, Schedule};
use crate::device;
use crate::model::ComputeDtype;
use crate::plan::memory::Strategy;
use crate::train::data::{Columns, HoldOut, LossOn};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A value as a text and back.
pub(super) trait Value: Sized {
    /// As a text; empty where there is none.
    fn get(&self) -> String;

    /// From a text.
    ///
    /// # Errors
    /// What is expected.
    fn parse(text: &str) -> Result<Self, String>;

    /// As a number, where it is one.
    fn number(&self) -> Option<f64> {
        None
    }
}

/// An enum whose values have names.
pub trait Named: Copy + PartialEq + 'static {
    /// All values.
    const ALL: &'static [Self];

    /// Name, label and meaning of a value.
    fn choice(self) -> Choice;

    /// The value of this name.
    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|value| value.choice().name == name)
    }

    /// All choices.
    fn choices() -> Vec<Choice> {
        Self::ALL.iter().map(|value| value.choice()).collect()
    }
}

impl<T: Named> Value for T {
    fn get(&self) -> String {
        self.choice().name.to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.iter().map(|value| value.choice().name).collect::<Vec<_>>().join(", ");
        Self::named(text).ok_or_else(|| format!("expected one of {}", names()))
    }
}

impl<T: Value> Value for Option<T> {
    fn get(&self) -> String {
        self.as_ref().map(Value::get).unwrap_or_default()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::parse(text).map(Some) }
    }

    fn number(&self) -> Option<f64> {
        self.as_ref().and_then(Value::number)
    }
}

macro_rules! numbers {
    ($($type:ty: $expected:literal),+) => {$(
        impl Value for $type {
            fn get(&self) -> String {
                self.to_string()
            }

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| concat!("expected ", $expected).to_owned())
            }

            fn number(&self) -> Option<f64> {
                Some(*self as f64)
            }
        }
    )+};
}

numbers!(usize: "a whole number", u64: "a whole number", f64: "a number");

impl Value for bool {
    fn get(&self) -> String {
        if *self { "on" } else { "off" }.to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err("expected on or off".to_owned()),
        }
    }
}

/// Types that read and write themselves.
macro_rules! texts {
    ($($type:ty),+) => {$(
        impl Value for $type {
            fn get(&self) -> String {
                self.to_string()
            }

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|wrong: <$type as std::str::FromStr>::Err| wrong.to_string())
            }
        }
    )+};
}

texts!(String, device::Choice, Columns, HoldOut);

impl Value for PathBuf {
    fn get(&self) -> String {
        self.display().to_string()
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }
}

/// A line each.
impl Value for Vec<String> {
    fn get(&self) -> String {
        self.join("\n")
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect())
    }
}

/// A JSON object of ranks by pattern, or a line `pattern = rank` each.
impl Value for BTreeMap<String, usize> {
    fn get(&self) -> String {
        self.iter().map(|(pattern, rank)| format!("{pattern} = {rank}")).collect::<Vec<_>>().join("\n")
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            return serde_json::from_str(text)
                .map_err(|error| format!("expected an object of ranks by pattern: {error}"));
        }
        let line = |line: &str| {
            let wrong = || format!("found {line:?}, expected a line as q_proj = 8");
            let (pattern, rank) = line.rsplit_once('=').ok_or_else(wrong)?;
            Ok((pattern.trim().to_owned(), rank.trim().parse().map_err(|_| wrong())?))
        };
        text.lines().filter(|line| !line.trim().is_empty()).map(line).collect()
    }
}

impl Named for LossOn {
    const ALL: &'static [Self] = &[Self::Completions, Self::All, Self::Last];

    fn choice(self) -> Choice {
        let (name, label, about) = match self {
            Self::Completions => ("completions", "answers", "What the assistant says, the completion, the output."),
            Self::All => ("all", "everything", "Questions as well: to learn the language of a domain."),
            Self::Last => ("last", "last answer", "Only what the assistant says last."),
        };
        Choice { name, label, about }
    }
}

impl Named for Method {
    const ALL: &'static [Self] = &[Self::Qlora, Self::Lora, Self::Full];

    fn choice(self) -> Choice {
        let (label, about) = match self {
            Self::Qlora => ("QLoRA", "Frozen weights in 4 bits, A and B beside them: the least memory."),
            Self::Lora => ("LoRA", "Frozen weights as stored, A and B beside them."),
            Self::Full => {
                ("full", "Every weight is trained: the most memory; a learning rate of about a tenth of LoRA's.")
            }
        };
        Choice { name: self.as_str(), label, about }
    }
}

impl Named for Schedule {
    const ALL: &'static [Self] = &[Self::Cosine, Self::Linear, Self::Constant];

    fn choice(self) -> Choice {
        let (name, about) = match self {
            Self::Cosine => ("cosine", "Half a cosine, to 0 at the last step: the loss settles."),
            Self::Linear => ("linear", "A line, to 0 at the last step."),
            Self::Constant => ("constant", "The peak learning rate to the end."),
        };
        Choice { name, label: name, about }
    }
}

impl Named for Init {
    const ALL: &'static [Self] = &[Self::Default, Self::Pissa, Self::Loftq];

    fn choice(self) -> Choice {
        let (name, label, about) = match self {
            Self::Default => ("default", "random A, zero B", "The run begins where the model is: ΔW = 0."),
            Self::Pissa => (
                "pissa",
                "PiSSA",
                "The strongest directions of each weight are trained, the rest is frozen: a faster start.",
            ),
            Self::Loftq => {
                ("loftq", "LoftQ", "A and B first repair what 4 bits take from the weights; goes with qlora.")
            }
        };
        Choice { name, label, about }
    }
}

impl Named for Quant {
    const ALL: &'static [Self] = &[Self::Nf4, Self::Fp4, Self::None];

    fn choice(self) -> Choice {
        let (name, label, about) = match self {
            Self::Nf4 => ("nf4", "NF4", "Levels follow a normal distribution, as weights do."),
            Self::Fp4 => ("fp4", "FP4", "Levels of a 4-bit float: a larger error on most weights."),
            Self::None => ("none", "none", "Frozen weights as stored: plain LoRA."),
        };
        Choice { name, label, about }
    }
}

impl Named for Strategy {
    const ALL: &'static [Self] = Self::ALL;

    fn choice(self) -> Choice {
        Choice { name: self.as_str(), label: self.as_str(), about: self.about() }
    }
}

impl Named for ReportTo {
    const ALL: &'static [Self] = &[Self::None, Self::Tensorboard];

    fn choice(self) -> Choice {
        let (name, label, about) = match self {
            Self::None => ("none", "nothing else", "metrics.jsonl alone, which this program reads."),
            Self::Tensorboard => ("tensorboard", "TensorBoard", "Event files in the run's folder as well."),
        };
        Choice { name, label, about }
    }
}

impl Named for ComputeDtype {
    const ALL: &'static [Self] = &[Self::Bf16, Self::F32];

    fn choice(self) -> Choice {
        let about = match self {
            Self::Bf16 => "Half the memory, the speed of the tensor cores; trained values stay in 32 bits.",
            Self::F32 => "As the processor computes.",
        };
        Choice { name: self.name(), label: self.name(), about }
    }
}
