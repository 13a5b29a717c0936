//! [`Alpha`]: how α follows the rank from one run of a grid to the next.
//!
//! The update is `s · B A`. Which learning rate is best at a rank depends on how `s` moves with it (arXiv 2602.06204), so a
//! comparison of ranks says under which convention it was made.

use super::Settings;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A convention for α.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Alpha {
    /// α is so many times r: `s` is the same at every rank.
    Times(f64),
    /// α is the same at every rank: `s = α/r`.
    Fixed(f64),
    /// α is the same at every rank, divided by √r (rsLoRA, arXiv 2312.03732): `s = α/√r`.
    Rslora(f64),
}

impl Alpha {
    /// The usual three. They meet at r = 16, where `s` is 2 under each: what differs elsewhere is the convention alone.
    pub const USUAL: [Self; 3] = [Self::Times(2.0), Self::Fixed(32.0), Self::Rslora(8.0)];

    /// What settings say at their own rank: rsLoRA, or so many times it.
    pub fn of(settings: &Settings) -> Self {
        if settings.rslora {
            Self::Rslora(settings.alpha())
        } else {
            Self::Times(settings.alpha() / settings.rank.max(1) as f64)
        }
    }

    /// α at rank `r`.
    pub fn alpha(self, r: usize) -> f64 {
        match self {
            Self::Times(times) => times * r as f64,
            Self::Fixed(alpha) | Self::Rslora(alpha) => alpha,
        }
    }

    /// `s` at rank `r`.
    pub fn scaling(self, r: usize) -> f64 {
        match self {
            Self::Times(times) => times,
            Self::Fixed(alpha) => alpha / r as f64,
            Self::Rslora(alpha) => alpha / (r as f64).sqrt(),
        }
    }

    /// These settings with α as this convention has it at their rank.
    pub fn set(self, settings: &mut Settings) {
        settings.alpha = Some(self.alpha(settings.rank));
        settings.rslora = matches!(self, Self::Rslora(_));
    }
}

impl fmt::Display for Alpha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(times) => write!(f, "{times}r"),
            Self::Fixed(alpha) => write!(f, "{alpha}"),
            Self::Rslora(alpha) => write!(f, "rslora:{alpha}"),
        }
    }
}

impl FromStr for Alpha {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = text.trim();
        let number = |text: &str| text.parse::<f64>().ok().filter(|x| x.is_finite() && *x > 0.0);
        let found = match plain.split_once(':') {
            Some(("rslora", alpha)) => number(alpha).map(Self::Rslora),
            _ if plain == "rslora" => Some(Self::USUAL[2]),
            _ => match plain.strip_suffix('r') {
                Some("") => Some(Self::Times(1.0)),
                Some(times) => number(times).map(Self::Times),
                None => number(plain).map(Self::Fixed),
            },
        };
        found.ok_or_else(|| {
            Error::usage(format!("alpha \"{text}\"; expected 2r, a number such as 32, rslora, or rslora:16"))
        })
    }
}

impl From<Alpha> for String {
    fn from(alpha: Alpha) -> Self {
        alpha.to_string()
    }
}

impl TryFrom<String> for Alpha {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conventions_are_read_as_they_are_written() {
        for (text, alpha) in [("2r", Alpha::Times(2.0)), ("32", Alpha::Fixed(32.0)), ("rslora:16", Alpha::Rslora(16.0))]
        {
            assert_eq!(text.parse::<Alpha>().unwrap(), alpha);
            assert_eq!(alpha.to_string(), text);
        }
        assert_eq!("rslora".parse::<Alpha>().unwrap(), Alpha::USUAL[2]);
        for wrong in ["", "x", "-1", "0", "rslora:x", "NaN"] {
            assert!(wrong.parse::<Alpha>().unwrap_err().to_string().contains("expected 2r"), "{wrong}");
        }
    }

    #[test]
    fn the_usual_three_meet_at_16() {
        assert!(Alpha::USUAL.iter().all(|alpha| alpha.scaling(16) == 2.0));
        assert_eq!(Alpha::USUAL.map(|alpha| alpha.scaling(64)), [2.0, 0.5, 1.0]);
        let mut settings = Settings { rank: 4, ..Settings::default() };
        Alpha::Rslora(8.0).set(&mut settings);
        assert_eq!((settings.alpha, settings.rslora), (Some(8.0), true));
        assert_eq!(Alpha::of(&settings), Alpha::Rslora(8.0));
        assert_eq!(Alpha::of(&Settings::default()), Alpha::Times(2.0));
    }
}
