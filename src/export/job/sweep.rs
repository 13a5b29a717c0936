//! Runs of a sweep: a line of `sweep.txt` each, whose number an array task, a managed job or a loop gives.

use super::File;
use super::plan::Plan;
use serde_json::json;

/// `sweep.txt`, and `group.json`, by which the folder of the runs is one group in History.
pub(super) fn files(plan: &Plan) -> Vec<File> {
    if plan.job.variants.is_empty() {
        return Vec::new();
    }
    let line = |variant: &super::Variant| {
        let super::Variant { rank, alpha, lr, seed } = variant;
        format!("--rank {rank} --alpha {alpha} --lr {lr} --seed {seed} --out runs/{}\n", variant.name())
    };
    let lines: String = plan.job.variants.iter().map(line).collect();
    vec![File::new("sweep.txt", lines), File::json("runs/group.json", &json!({"kind": "exported sweep", "rows": []}))]
}
