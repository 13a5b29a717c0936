//! [`Given`]: the table of settings as flags of the command line.

use super::choice::values;
use crate::error::{Error, Result};
use crate::train::{Control, Group, SETTINGS, Setting, Settings, Switch};
use clap::builder::{TypedValueParser, ValueParser};
use clap::error::Error as Wrong;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use std::marker::PhantomData;
use std::path::Path;

/// The settings that were given, with their values as texts.
#[derive(Debug)]
pub(super) struct Given<C = Run>(Vec<(&'static Setting, String)>, PhantomData<C>);

/// A command by the settings that it takes.
pub(super) trait Takes: std::fmt::Debug {
    /// Whether it takes a setting.
    fn takes(setting: &Setting) -> bool;
}

/// A run takes all of them.
#[derive(Debug)]
pub(super) struct Run;

impl Takes for Run {
    fn takes(setting: &Setting) -> bool {
        !setting.about.global
    }
}

/// A sweep has ways of its own to say α.
#[derive(Debug)]
pub(super) struct Swept;

impl Takes for Swept {
    fn takes(setting: &Setting) -> bool {
        Run::takes(setting) && !matches!(setting.name, "alpha" | "rslora")
    }
}

/// Declares commands that take the settings of these names.
macro_rules! takes {
    ($($(#[$doc:meta])* $command:ident: $names:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $command;

        impl Takes for $command {
            fn takes(setting: &Setting) -> bool {
                $names.contains(&setting.name)
            }
        }
    )+};
}

takes! {
    /// `eval`.
    Evaluation: ["columns", "chat-template", "loss-on", "batch", "seq", "dtype"];
    /// `merge --check`; its `--dtype` is that of the file.
    Checking: ["columns", "chat-template", "loss-on", "batch", "seq"];
    /// `generate`.
    Generation: ["dtype"];
    /// `memory`.
    Budget: ["method", "rank", "targets", "batch", "seq", "checkpointing", "block", "double-quant"];
    /// `advise`.
    Advising: ["columns", "chat-template", "loss-on", "hold-out", "method", "targets", "batch", "accumulate", "seq", "steps", "epochs", "eval-data", "forget-data", "checkpointing", "seed", "packing"];
    /// `probe`.
    Probing: ["columns", "chat-template", "loss-on", "targets", "batch", "seq", "seed", "shuffle"];
}

/// The settings that a command takes, by group.
fn flags<C: Takes>() -> impl Iterator<Item = &'static Setting> {
    let of = |group: Group| SETTINGS.iter().filter(move |setting| setting.about.group == group && C::takes(setting));
    Group::ALL.into_iter().flat_map(of)
}

/// The word that stands for "on", and "off".
const SWITCH: [&str; 2] = ["on", "off"];

/// A setting as an argument.
fn argument(setting: &'static Setting) -> Arg {
    let mut argument = Arg::new(setting.name).help(short(setting)).long_help(long(setting));
    argument = argument.help_heading(setting.about.group.title());
    if !setting.about.positional {
        argument = argument.long(setting.flag());
    }
    let text = ValueParser::from(move |text: &str| check(setting, text));
    match setting.about.control {
        Control::Path(name) | Control::Text(name) => argument.value_name(name).value_parser(text),
        Control::Lines(name) => argument.value_name(name).action(ArgAction::Append).value_parser(text),
        // Read when everything else has been understood.
        Control::Patterns => argument.value_name("FILE"),
        Control::Whole("steps") => argument.value_name("STEPS").value_parser(text),
        Control::Whole(_) | Control::Sizes(_) => argument.value_name("N").value_parser(text),
        Control::Real | Control::Exponent => argument.value_name("X").value_parser(text),
        Control::Choice(choices) => argument.value_name("NAME").value_parser(values(choices()).map(String::from)),
        Control::Switch(Switch::OnOff) => argument.value_name("on|off").value_parser(SWITCH).hide_possible_values(true),
        Control::Switch(Switch::Flag | Switch::No(_)) => argument
            .value_name("on|off")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("on")
            .value_parser(SWITCH)
            .hide_possible_values(true),
    }
}

/// The text as it is, if the setting can be set from it.
fn check(setting: &Setting, text: &str) -> std::result::Result<String, String> {
    (setting.set)(&mut Settings::default(), text).map(|()| text.to_owned())
}

/// One line, with the default.
fn short(setting: &Setting) -> String {
    let help = match setting.about.control {
        Control::Switch(Switch::No(help)) => help,
        _ => setting.help(),
    };
    let default = (setting.get)(&Settings::default());
    let worth_a_word =
        !(default.is_empty() || matches!(setting.about.control, Control::Switch(Switch::Flag | Switch::No(_))));
    if worth_a_word { format!("{help} [default: {default}]") } else { help.to_owned() }
}

/// The line and the reason.
fn long(setting: &Setting) -> String {
    match setting.reason() {
        reason if reason.is_empty() => short(setting),
        reason => format!("{}\n\n{reason}", short(setting)),
    }
}

impl<C: Takes> Args for Given<C> {
    fn augment_args(command: Command) -> Command {
        flags::<C>().fold(command, |command, setting| {
            let argument = argument(setting);
            let argument = if setting.name == "steps" { argument.conflicts_with("epochs") } else { argument };
            command.arg(argument)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<C: Takes> FromArgMatches for Given<C> {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, Wrong> {
        let mut given = Self(Vec::new(), PhantomData);
        given.update_from_arg_matches(matches)?;
        Ok(given)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), Wrong> {
        for setting in flags::<C>() {
            if matches.value_source(setting.name) != Some(ValueSource::CommandLine) {
                continue;
            }
            let texts: Vec<&str> =
                matches.get_many::<String>(setting.name).unwrap_or_default().map(String::as_str).collect();
            let text = match setting.about.control {
                Control::Switch(Switch::No(_)) => if texts == ["on"] { "off" } else { "on" }.to_owned(),
                _ => texts.join("\n"),
            };
            self.0.push((setting, text));
        }
        Ok(())
    }
}

impl<C> Given<C> {
    /// The defaults with what was given.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub(super) fn settings(&self) -> Result<Settings> {
        let mut settings = Settings::default();
        self.apply(&mut settings)?;
        Ok(settings)
    }

    /// Whether a setting was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(setting, _)| setting.name == name)
    }

    /// Sets what was given.
    ///
    /// # Errors
    /// A file that cannot be read, or does not hold what is expected.
    pub(super) fn apply(&self, settings: &mut Settings) -> Result<()> {
        for (setting, text) in &self.0 {
            let set = |settings: &mut Settings, text: &str| (setting.set)(settings, text);
            match setting.about.control {
                Control::Patterns => {
                    let path = Path::new(text);
                    set(settings, &crate::checkpoint::json::text(path)?).map_err(|wrong| Error::file(path, wrong))?;
                }
                _ => set(settings, text).map_err(|wrong| Error::usage(format!("--{}: {wrong}", setting.flag())))?,
            }
            // Either of them decides the length.
            if setting.name == "epochs" {
                settings.steps = None;
            }
        }
        Ok(())
    }

    /// What was given and has no effect on a run of these settings.
    pub(super) fn idle(&self, settings: &Settings) -> Vec<String> {
        let method = settings.method.as_str();
        let idle = self.0.iter().filter(|(setting, _)| !setting.touches(settings.method));
        idle.map(|(setting, _)| format!("note: --{} has no effect with method {method}", setting.flag())).collect()
    }
}
