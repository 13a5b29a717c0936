//! Unsloth: the same trainer on a model that it has patched. One GPU, or whole copies on several.

use super::engine::{Engine, Entry};
use super::plan::Plan;
use super::{Difference, File, trl};
use crate::error::Result;
use crate::train::Init;

pub(super) static ENGINE: Engine = Engine {
    name: "unsloth",
    title: "Unsloth",
    requirements: &["unsloth==2026.10.9", "tensorboard==2.21.0"],
    shards: false,
    entry: Entry::Script("train.py"),
    overrides: ["--rank ", "--alpha ", "--lr ", "--seed ", "--out "],
    whole_alpha: false,
    check: |_| Ok(()),
    files,
    differs,
};

fn files(plan: &Plan) -> Result<Vec<File>> {
    Ok(vec![File::json("job.json", &trl::job(plan)), File::new("train.py", include_str!("templates/unsloth.py"))])
}

fn differs(plan: &Plan) -> Vec<Difference> {
    let s = plan.settings;
    let mut differs =
        vec![Difference::new("kernels", "in f32 sums", "Unsloth's own, in bf16", "faster; losses agree to about 1 %")];
    if s.scheme().is_some() {
        let why = "it loads a quantized model of its own where it has one of the name";
        differs.push(Difference::new("model", &plan.model, "unsloth/…-bnb-4bit of the same model", why));
        if !s.double_quant || s.quant.get() != "nf4" {
            let there = "nf4, double quantization";
            differs.push(Difference::new("quant", s.quant.get(), there, "load_in_4bit has no other"));
        }
    }
    if s.init == Init::Pissa {
        differs.push(Difference::new("init", "pissa", "random A, zero B", "it has no PiSSA"));
    }
    if s.dropout > 0.0 || s.dora {
        let why = "its fast path is for plain LoRA without dropout: it warns and is slower";
        differs.push(Difference::new("dropout, dora", "as set", "as set, slower", why));
    }
    differs.extend(super::engine::warm_up(plan));
    differs
}

/// The name of a choice.
trait Get {
    fn get(self) -> &'static str;
}

impl<T: crate::train::Named> Get for T {
    fn get(self) -> &'static str {
        self.choice().name
    }
}
