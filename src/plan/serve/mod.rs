//! Will it be served? What each runtime refuses of an adapter, leaves out, or applies otherwise than it was trained.
//!
//! A runtime is one entry of [`RUNTIMES`]; a rule is one line of it, with the place where its program says so.

mod loads;
mod runtimes;

pub use loads::Unloaded;
pub use runtimes::RUNTIMES;

use crate::adapter::{Adapter, LoraLayer, TakenOut, TargetModules};
use crate::checkpoint::{Checkpoint, NameMap, Role};
use crate::error::{Error, Result};

/// In what a runtime takes adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// PEFT's folder.
    Peft,
    /// A GGUF file.
    Gguf,
    /// mlx-lm's folder.
    Mlx,
}

impl Form {
    /// The word of `convert --to`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Peft => "peft",
            Self::Gguf => "gguf",
            Self::Mlx => "mlx",
        }
    }
}

/// What a runtime does with a feature that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It works as it was trained once a flag is given.
    Flag,
    /// It applies it otherwise, without a word.
    Differs,
    /// It leaves it out, without a word.
    Ignores,
    /// It does not load the adapter.
    Refuses,
}

impl Effect {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flag => "needs a flag",
            Self::Differs => "applies otherwise",
            Self::Ignores => "ignores",
            Self::Refuses => "refuses",
        }
    }
}

/// What an adapter may have beyond plain pairs of one scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Feature {
    /// A file that is not of this format.
    NotIn(&'static str),
    /// A rank above a limit.
    RankAbove(usize),
    /// Weights that are saved whole, but for the heads of classifiers.
    SavedModules,
    /// Heads of classifiers that are saved whole.
    SavedHead,
    /// Magnitudes.
    Dora,
    /// Biases: the base's that were trained, or one of B.
    Bias,
    /// Scaling by `α / √r`.
    RsLora,
    /// More than one scale.
    Scales,
    /// More than one α (scale times rank).
    Alphas,
    /// More than one rank.
    Ranks,
    /// An α that is no whole number.
    RealAlpha,
    /// Rows of an embedding.
    Tokens,
    /// A pair on the embedding.
    Embedding,
    /// A pair on the head.
    Head,
    /// Pairs for a stack of experts.
    Experts,
    /// Names of modules that the base spells otherwise.
    OtherNames,
    /// `target_modules` that are an expression for whole names.
    TargetPattern,
    /// Names of the base's file where transformers' class has others.
    FileNames,
    /// Pairs that PEFT does not put where they belong.
    Unloaded(Unloaded),
    /// An initialisation that took a part out of the base.
    TakenOut,
    /// A variant whose pairs are not active everywhere, or not alone (aLoRA, Arrow, KaSA, …).
    Variant,
    /// A variant, but this one, which the runtime knows.
    VariantBut(&'static str),
    /// A base of a kind for which the runtime takes no adapter, by transformers' `model_type`.
    BaseOtherThan(&'static [&'static str]),
}

/// One rule of a runtime.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// What it is about.
    pub feature: Feature,
    /// What happens.
    pub effect: Effect,
    /// What to say, beside the modules that are meant.
    pub text: &'static str,
    /// Where the program or its maintainers say so.
    pub source: &'static str,
}

/// A program that serves adapters.
#[derive(Debug)]
pub struct Runtime {
    /// The word of the command line.
    pub name: &'static str,
    /// The form in which it takes adapters.
    pub form: Form,
    /// What it does not do as PEFT does.
    pub rules: &'static [Rule],
}

/// What a runtime does with one feature of an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What happens.
    pub effect: Effect,
    /// A sentence.
    pub text: String,
    /// Where the program says so.
    pub source: &'static str,
}

impl Runtime {
    /// The one of this name.
    ///
    /// # Errors
    /// A name that is not in [`RUNTIMES`].
    pub fn named(name: &str) -> Result<&'static Self> {
        RUNTIMES.iter().find(|runtime| runtime.name == name).ok_or_else(|| {
            let known: Vec<&str> = RUNTIMES.iter().map(|runtime| runtime.name).collect();
            Error::usage(format!("runtime {name:?}; expected some of {}", known.join(",")))
        })
    }

    /// What it does with an adapter, the worst first; nothing where it applies all of it. `base` is the model that it is for, as far
    /// as it is here.
    pub fn verdicts(&self, adapter: &Adapter, base: Option<&Checkpoint>) -> Vec<Verdict> {
        let mut found: Vec<Verdict> = self
            .rules
            .iter()
            .filter_map(|rule| {
                let what = rule.feature.of(adapter, base)?;
                let text = if what.is_empty() { rule.text.to_owned() } else { format!("{what}: {}", rule.text) };
                Some(Verdict { effect: rule.effect, text, source: rule.source })
            })
            .collect();
        found.sort_by_key(|verdict| std::cmp::Reverse(verdict.effect));
        found
    }
}

impl Feature {
    /// What of it an adapter has, in words; `None` when it has nothing of it.
    fn of(self, adapter: &Adapter, base: Option<&Checkpoint>) -> Option<String> {
        let config = &adapter.config;
        let layers = |meant: &dyn Fn(&LoraLayer) -> bool| {
            let names: Vec<&str> =
                adapter.layers.iter().filter(|layer| meant(layer)).map(|layer| layer.module.as_str()).collect();
            some(&names)
        };
        let saved = |head: bool| {
            let names: Vec<&str> = adapter
                .saved
                .iter()
                .filter(|saved| saved.trained && !saved.name.ends_with(".bias") && is_classifier(&saved.name) == head)
                .map(|saved| saved.name.as_str())
                .collect();
            some(&names)
        };
        match self {
            Self::NotIn(format) => (adapter.format != format).then(|| format!("a file of {}", adapter.format)),
            Self::RankAbove(limit) => {
                let most = adapter.layers.iter().map(|layer| layer.r).max().unwrap_or(0);
                (most > limit).then(|| format!("rank {most}"))
            }
            Self::SavedModules => saved(false),
            Self::SavedHead => saved(true),
            Self::Dora => layers(&|layer| layer.dora).map(|names| format!("DoRA in {names}")),
            Self::Bias => {
                let own = config.lora_bias || config.bias != "none";
                let biases =
                    adapter.saved.iter().filter(|saved| saved.trained && saved.name.ends_with(".bias")).count();
                (own || biases > 0)
                    .then(|| if config.lora_bias { "lora_bias".to_owned() } else { format!("bias {:?}", config.bias) })
            }
            Self::RsLora => config.scaling.is_rslora().then(|| "use_rslora".to_owned()),
            Self::Scales => {
                let first = adapter.layers.first()?.scaling;
                let apart = |layer: &LoraLayer| (layer.scaling - first).abs() > 1e-9 * first.abs();
                layers(&apart).map(|names| format!("another scale in {names}"))
            }
            Self::Alphas => {
                let alpha = |layer: &LoraLayer| layer.scaling * layer.r as f64;
                let first = alpha(adapter.layers.first()?);
                let apart = |layer: &LoraLayer| (alpha(layer) - first).abs() > 1e-6 * first.abs();
                layers(&apart).map(|names| format!("another α in {names}"))
            }
            Self::Ranks => {
                let first = adapter.layers.first()?.r;
                layers(&|layer| layer.r != first).map(|names| format!("another rank in {names}"))
            }
            // What a runtime's own converter does not know goes by it in a file that is converted already.
            Self::RealAlpha | Self::BaseOtherThan(_) if adapter.format == "GGUF" => None,
            Self::RealAlpha => (config.lora_alpha.fract() != 0.0).then(|| format!("lora_alpha {}", config.lora_alpha)),
            Self::Tokens => {
                adapter.tokens.first().map(|tokens| format!("{} rows of {}", tokens.rows.len(), tokens.module))
            }
            Self::Embedding => layers(&|layer| layer.embedding),
            Self::Head => layers(&|layer| layer.role == Role::Head && !layer.embedding),
            Self::Experts => layers(&|layer| layer.experts.is_some()),
            Self::OtherNames => {
                let base = base?;
                let modules = base.modules();
                let names = NameMap::new(modules.iter().map(|module| module.name.as_str()));
                // What a runtime loads has its names from the file or, as PEFT's adapters have, from the class.
                let spec = base.spec().ok();
                let peft = spec.as_ref().map(|spec| spec.peft_names());
                let class = |name: &str| peft.as_ref().map(|peft| peft.class(name));
                let apart = |layer: &LoraLayer| {
                    names.find(&layer.module).is_some_and(|at| {
                        let name = modules[at].name.as_str();
                        name != layer.module && class(name).as_ref() != Some(&layer.module)
                    }) && layer.experts.is_none()
                };
                layers(&apart)
            }
            Self::TargetPattern => match &config.target_modules {
                TargetModules::Pattern(text) if !text.starts_with("all") => Some(format!("target_modules {text:?}")),
                _ => None,
            },
            Self::FileNames => {
                let [file, class] = base?.spec().ok()?.class_stem()?;
                layers(&|layer| layer.module.starts_with(&file) && !layer.module.starts_with(&class))
            }
            Self::Unloaded(why) => some(&why.layers(adapter, base?)),
            Self::TakenOut => {
                let what = adapter.taken_out().filter(|what| *what != TakenOut::Smallest)?;
                let init = config.init_lora_weights.clone().unwrap_or_default();
                Some(if what == TakenOut::Unknown { format!("{init}, unconverted") } else { init })
            }
            Self::Variant => config.variants().next().map(|variant| variant.name.to_owned()),
            Self::VariantBut(known) => {
                config.variants().find(|variant| variant.name != known).map(|variant| variant.name.to_owned())
            }
            Self::BaseOtherThan(kinds) => {
                let kind = base?.config()?.get("model_type")?.as_str()?.to_owned();
                (!kinds.contains(&kind.as_str())).then_some(kind)
            }
        }
    }
}

/// Whether this is the head of a classifier.
fn is_classifier(name: &str) -> bool {
    name.split('.').any(|part| matches!(part, "score" | "classifier"))
}

fn some(names: &[&str]) -> Option<String> {
    const NAMED: usize = 2;
    let more = if names.len() > NAMED { format!(" and {} more", names.len() - NAMED) } else { String::new() };
    (!names.is_empty()).then(|| format!("{}{more}", names[..names.len().min(NAMED)].join(", ")))
}
