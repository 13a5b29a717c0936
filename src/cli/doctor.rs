//! `rankscope doctor`: what is amiss with an adapter, and who serves it.

use super::screen::Screen;
use super::text::Table;
use crate::adapter::Adapter;
use crate::checkpoint::{Checkpoint, hub};
use crate::error::{Error, Result};
use crate::plan::serve::{Form, Runtime, Verdict};
use crate::plan::{Layout, doctor};
use crate::train::repair::{Repaired, repair};
use crate::units::real;
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Doctor {
    /// Adapter: a folder or file
    adapter: PathBuf,

    /// Base model, to check that module names and shapes match [default: the one that the adapter names, where it is on this machine]
    #[arg(long, value_name = "MODEL")]
    base: Option<PathBuf>,

    /// Runtimes, separated by commas, that are to serve it: peft, vllm, llama.cpp, ollama, mlx, sglang
    #[arg(long = "for", value_name = "LIST", value_delimiter = ',')]
    runtimes: Vec<String>,

    /// Write a copy to this folder that the runtimes of --for apply whole; one folder a form where they take several
    #[arg(long, value_name = "DIR", requires = "runtimes")]
    repair: Option<PathBuf>,
}

/// What is found beside the scales.
struct Serving {
    verdicts: Vec<(&'static Runtime, Vec<Verdict>)>,
    repaired: Vec<(Form, Repaired)>,
}

impl Doctor {
    pub fn run(self, screen: &Screen) -> Result<()> {
        let runtimes: Vec<&'static Runtime> =
            self.runtimes.iter().map(|name| Runtime::named(name.trim())).collect::<Result<_>>()?;
        let adapter = Adapter::open(&self.adapter)?;
        let named = adapter.config.base_model_name_or_path.as_deref().filter(|name| !name.is_empty());
        let meant = named.map(|name| hub::base(name, adapter.path()));
        let by_name = || {
            let path = meant.as_ref()?.path.as_ref()?;
            Checkpoint::open(path).inspect_err(|error| screen.message(&format!("the base is left out: {error}"))).ok()
        };
        let base = match &self.base {
            Some(path) => Some(Checkpoint::open(path)?),
            None => by_name(),
        };
        let layout = base.as_ref().map(Layout::of).transpose()?;
        let found = doctor::examine(&adapter, layout.as_ref(), screen);
        screen.finish();
        let found = found?;
        let serving = self.serving(&adapter, base.as_ref(), &runtimes, screen)?;
        let why = meant.as_ref().filter(|_| self.base.is_none()).and_then(|base| base.why.as_deref());
        let meant_at = || meant.as_ref().map_or("", |base| base.meant.as_str());
        let lost = why.map(|why| format!("{why}: {}", meant_at()));
        if screen.json {
            let scales: Vec<Value> = found
                .scales
                .iter()
                .map(|scale| {
                    json!({"name": scale.module, "r": scale.r, "lora_alpha": scale.lora_alpha, "scaling": scale.scaling})
                })
                .collect();
            let findings: Vec<Value> = found
                .findings
                .iter()
                .map(|finding| {
                    let level = if finding.weight == doctor::Weight::Warning { "warning" } else { "note" };
                    json!({"level": level, "text": finding.text, "advice": finding.advice})
                })
                .collect();
            let mut document = json!({"modules": scales, "findings": findings});
            if let Some(meant) = &meant {
                document["base"] = json!({"named": named, "meant": meant.meant, "path": meant.path, "why": meant.why});
            }
            if !serving.verdicts.is_empty() {
                document["runtimes"] =
                    serving.verdicts.iter().map(|(runtime, verdicts)| verdict(runtime, verdicts)).collect();
            }
            if !serving.repaired.is_empty() {
                document["repaired"] = serving.repaired.iter().map(|(form, made)| copy(*form, made)).collect();
            }
            return screen.document(&document);
        }
        let mut table = Table::new(&["module", ">r", ">α", ">scale"]);
        for scale in &found.scales {
            let cells = [scale.r.to_string(), real(scale.lora_alpha, 3), real(scale.scaling, 4)];
            table.push(std::iter::once(scale.module.clone()).chain(cells).collect());
        }
        let mut text = table.render();
        for finding in &found.findings {
            let level = if finding.weight == doctor::Weight::Warning { "warning" } else { "note" };
            let advice = if finding.advice.is_empty() { String::new() } else { format!("; {}", finding.advice) };
            text.push_str(&format!("\n{level}: {}{advice}", finding.text));
        }
        if let Some(lost) = lost {
            text.push_str(&format!("\nbase: {lost}"));
        }
        text.push_str(if found.findings.is_empty() { "\nnothing is amiss\n" } else { "\n" });
        for (runtime, verdicts) in &serving.verdicts {
            if verdicts.is_empty() {
                text.push_str(&format!("{}: applies all of it\n", runtime.name));
            }
            for one in verdicts {
                text.push_str(&format!("{}: {}: {} ({})\n", runtime.name, one.effect.as_str(), one.text, one.source));
            }
        }
        for (form, made) in &serving.repaired {
            text.push_str(&said(*form, made));
        }
        screen.print(&text)
    }

    fn serving(
        &self,
        adapter: &Adapter,
        base: Option<&Checkpoint>,
        runtimes: &[&'static Runtime],
        screen: &Screen,
    ) -> Result<Serving> {
        let verdicts = runtimes.iter().map(|runtime| (*runtime, runtime.verdicts(adapter, base))).collect();
        let mut repaired = Vec::new();
        if let Some(out) = &self.repair {
            let same = |path: &std::path::Path| path.canonicalize().ok();
            if same(out).is_some_and(|out| Some(out) == same(&self.adapter)) {
                return Err(Error::file(out, "this is what is read; expected another place to write to"));
            }
            let mut forms: Vec<Form> = runtimes.iter().map(|runtime| runtime.form).collect();
            forms.sort();
            forms.dedup();
            for form in &forms {
                let folder = if forms.len() == 1 { out.clone() } else { out.join(form.as_str()) };
                let made = repair(adapter, base, *form, &folder, screen);
                screen.finish();
                let made = made?;
                let merged = made.merged;
                repaired.push((*form, made));
                if merged {
                    break;
                }
            }
        }
        Ok(Serving { verdicts, repaired })
    }
}

fn verdict(runtime: &Runtime, verdicts: &[Verdict]) -> Value {
    let rules: Vec<Value> = verdicts
        .iter()
        .map(|one| json!({"effect": one.effect.as_str(), "text": one.text, "source": one.source}))
        .collect();
    json!({"name": runtime.name, "whole": verdicts.is_empty(), "rules": rules})
}

fn copy(form: Form, made: &Repaired) -> Value {
    json!({
        "form": if made.merged { "model" } else { form.as_str() },
        "out": made.path,
        "modules": made.modules,
        "largest_difference": made.largest,
        "notes": made.notes,
    })
}

fn said(form: Form, made: &Repaired) -> String {
    let notes: String = made.notes.iter().map(|note| format!("note: {note}\n")).collect();
    let (form, checked) = match made.merged {
        true => ("model", "tensors were read again and differ from what they should be by"),
        false => (form.as_str(), "modules were read again; their ΔW on four random vectors differs by"),
    };
    format!("{form}: {}\n{} {checked} {:.1e} at most\n{notes}", made.path.display(), made.modules, made.largest)
}
