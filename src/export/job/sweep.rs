//! Runs of a sweep: a line of `sweep.txt` each, whose number an array task, a managed job or a loop gives.

use super::plan::Plan;
use super::{File, Variant};
use crate::train::Method;
use crate::train::run_folder::GROUP;
use serde_json::json;

/// `sweep.txt`, and `group.json`, by which the folder of the runs is one group in History.
pub(super) fn files(plan: &Plan) -> Vec<File> {
    if plan.job.variants.is_empty() {
        return Vec::new();
    }
    let lines: String = plan.job.variants.iter().map(|variant| line(plan, variant) + "\n").collect();
    let group = format!("{RUNS}/{GROUP}");
    vec![File::new("sweep.txt", lines), File::json(&group, &json!({"kind": "exported sweep", "rows": []}))]
}

const RUNS: &str = "runs";

/// What a run is started with, in the words of its engine.
fn line(plan: &Plan, variant: &Variant) -> String {
    let engine = plan.job.engine;
    let [rank, alpha, lr, seed, out] = engine.overrides;
    let pair = format!("{rank}{} {alpha}{} ", variant.rank, engine.alpha(variant.alpha));
    let pair = if plan.settings.method == Method::Full { String::new() } else { pair };
    format!("{pair}{lr}{} {seed}{} {out}{RUNS}/{}", variant.lr, variant.seed, variant.name())
}
