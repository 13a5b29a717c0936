//! [`Setting`]: one row of the table of settings, and what its readers need of it: the command line a flag with its help, the
//! window a row with its control, [`check`](super::Settings::check) the range.

use super::{Method, Settings};
use std::ops::Bound;

/// A setting of a run, described once.
#[derive(Debug)]
pub struct Setting {
    /// Its name in `run.toml`, and on the command line where [`About`] gives no other.
    pub name: &'static str,
    /// Lines of its documentation: the first one is the short help, the rest says why.
    pub(super) docs: &'static [&'static str],
    /// Where it belongs and how it is entered.
    pub about: About,
    /// Its value as a text; empty where there is none.
    pub get: fn(&Settings) -> String,
    /// Sets it from a text; an empty one is no value. Errors say what is expected.
    pub set: fn(&mut Settings, &str) -> std::result::Result<(), String>,
    /// Its value as a number, where it is one.
    pub(super) number: fn(&Settings) -> Option<f64>,
}

/// What belongs together: a heading of the help, a title in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// What is read and written.
    Data,
    /// What is trained, and where.
    Method,
    /// A and B.
    Adapter,
    /// Frozen weights in 4 bits.
    Quantization,
    /// Steps and the size of a step.
    Length,
    /// Learning rate.
    Rate,
    /// AdamW.
    Optimizer,
    /// Evaluation, checkpoints, spectra, samples.
    Logging,
}

impl Group {
    /// All of them, in the order of the help and the window.
    pub const ALL: [Self; 8] = [
        Self::Data,
        Self::Method,
        Self::Adapter,
        Self::Quantization,
        Self::Length,
        Self::Rate,
        Self::Optimizer,
        Self::Logging,
    ];

    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Data => "Data",
            Self::Method => "Method",
            Self::Adapter => "Adapter",
            Self::Quantization => "Quantization",
            Self::Length => "Length and batch",
            Self::Rate => "Learning rate",
            Self::Optimizer => "Optimizer",
            Self::Logging => "Evaluation and checkpoints",
        }
    }
}

/// One of several values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// On the command line and in `run.toml`.
    pub name: &'static str,
    /// In the window.
    pub label: &'static str,
    /// What it means.
    pub about: &'static str,
}

/// How a value is entered.
#[derive(Clone, Copy, Debug)]
pub enum Control {
    /// A path; the word that stands for it in the help.
    Path(&'static str),
    /// A line of text.
    Text(&'static str),
    /// Several texts: a flag that may be repeated, a line each in the window.
    Lines(&'static str),
    /// Ranks by pattern: a JSON file on the command line, lines `pattern = rank` in the window.
    Patterns,
    /// A whole number and its unit.
    Whole(&'static str),
    /// A number.
    Real,
    /// A small number, shown with its power of ten.
    Exponent,
    /// On or off.
    Switch(Switch),
    /// One of several.
    Choice(fn() -> Vec<Choice>),
    /// One of several numbers in the window, any in the range on the command line.
    Sizes(&'static [usize]),
}

/// How a switch is spelled on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// `--name on|off`.
    OnOff,
    /// `--name` turns it on, `--name=off` off.
    Flag,
    /// `--no-name` turns it off; the help of that flag.
    No(&'static str),
}

/// Where the window shows a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A row of its group.
    Row,
    /// A row under "More settings".
    More,
    /// A control of its own, made by hand: the data file, the length, the device.
    Custom,
    /// The base model and the rank bar above all tabs say it.
    Dial,
}

/// Which methods a setting has an effect on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touches {
    /// Every method.
    All,
    /// LoRA and QLoRA.
    Adapter,
    /// QLoRA.
    FourBit,
}

/// Where a setting belongs and how it is entered.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// What it belongs to.
    pub group: Group,
    /// Its name in the window.
    pub label: &'static str,
    /// Its flag on the command line, where that is not its name.
    pub flag: Option<&'static str>,
    /// How it is entered.
    pub control: Control,
    /// The numbers that are allowed.
    pub range: (Bound<f64>, Bound<f64>),
    /// Which methods it has an effect on.
    pub touches: Touches,
    /// Where the window shows it.
    pub shown: Shown,
    /// The command line takes it without a flag.
    pub positional: bool,
    /// It is a flag of every command, not of the run.
    pub global: bool,
    /// It only says what is logged: a run that is resumed may have another value.
    pub logging: bool,
}

impl About {
    /// Of a group, with a name in the window and a control.
    pub(super) const fn new(group: Group, label: &'static str, control: Control) -> Self {
        Self {
            group,
            label,
            flag: None,
            control,
            range: (Bound::Unbounded, Bound::Unbounded),
            touches: Touches::All,
            shown: Shown::Row,
            positional: false,
            global: false,
            logging: false,
        }
    }

    /// From `least` to `most`, both included.
    pub(super) const fn within(mut self, least: f64, most: f64) -> Self {
        self.range = (Bound::Included(least), Bound::Included(most));
        self
    }

    /// From 0 and below 1.
    pub(super) const fn below_one(mut self) -> Self {
        self.range = (Bound::Included(0.0), Bound::Excluded(1.0));
        self
    }

    /// Above 0.
    pub(super) const fn above_zero(mut self) -> Self {
        self.range = (Bound::Excluded(0.0), Bound::Excluded(f64::INFINITY));
        self
    }

    /// 0 or more.
    pub(super) const fn not_negative(mut self) -> Self {
        self.range = (Bound::Included(0.0), Bound::Excluded(f64::INFINITY));
        self
    }

    /// Only these methods.
    pub(super) const fn touches(mut self, touches: Touches) -> Self {
        self.touches = touches;
        self
    }

    /// Shown elsewhere than in a row of its group.
    pub(super) const fn shown(mut self, shown: Shown) -> Self {
        self.shown = shown;
        self
    }

    /// Another flag than its name.
    pub(super) const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    /// Without a flag.
    pub(super) const fn positional(mut self) -> Self {
        self.positional = true;
        self
    }

    /// A flag of every command.
    pub(super) const fn global(mut self) -> Self {
        self.global = true;
        self
    }

    /// It only says what is logged.
    pub(super) const fn logging(mut self) -> Self {
        self.logging = true;
        self
    }
}

impl Setting {
    /// What it is, in one line: the short help.
    pub fn help(&self) -> &'static str {
        self.docs.first().copied().unwrap_or_default().trim()
    }

    /// Why its default is what it is, or what it does; empty where the help says all.
    pub fn reason(&self) -> String {
        let lines = self.docs.iter().skip(1).map(|line| line.trim()).filter(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join(" ")
    }

    /// Its flag on the command line, without the dashes.
    pub fn flag(&self) -> &'static str {
        self.about.flag.unwrap_or(self.name)
    }

    /// Whether it has an effect under this method.
    pub fn touches(&self, method: Method) -> bool {
        match self.about.touches {
            Touches::All => true,
            Touches::Adapter => method != Method::Full,
            Touches::FourBit => method == Method::Qlora,
        }
    }

    /// Refuses a number that is not within the range.
    pub(super) fn check(&self, settings: &Settings) -> std::result::Result<(), String> {
        let Some(number) = (self.number)(settings) else { return Ok(()) };
        let (least, most) = self.about.range;
        let above = match least {
            Bound::Included(least) => number >= least,
            Bound::Excluded(least) => number > least,
            Bound::Unbounded => true,
        };
        let below = match most {
            Bound::Included(most) => number <= most,
            Bound::Excluded(most) => number < most,
            Bound::Unbounded => true,
        };
        if above && below {
            return Ok(());
        }
        let expected = match (least, most) {
            (Bound::Included(_), Bound::Included(most)) if !below => format!("{most} or less"),
            (Bound::Included(least), Bound::Excluded(most)) if most.is_finite() => {
                format!("a number from {least} and below {most}")
            }
            (Bound::Included(least), _) => format!("{least} or more"),
            (Bound::Excluded(least), _) => format!("a number above {least}"),
            (Bound::Unbounded, _) => "a number".to_owned(),
        };
        Err(format!("{} {}; expected {expected}", self.name, (self.get)(settings)))
    }
}
