//! Slurm: a batch script, an array where there are several runs.

use super::launcher::{Launcher, Made};
use super::plan::Plan;
use super::{File, fill};
use crate::error::Result;
use serde_json::json;

pub(super) static LAUNCHER: Launcher = Launcher { name: "slurm", title: "Slurm", many: true, nodes: true, make, notes };

fn make(plan: &Plan) -> Result<Made> {
    let values = json!({
        "nodes": plan.job.nodes,
        "gpus": plan.job.gpus,
        "variants": plan.job.variants.len(),
    });
    let files = vec![File::new("job.sbatch", fill(include_str!("templates/job.sbatch.j2"), &values)?)];
    Ok(Made { run: "exec sbatch \"$@\" job.sbatch\n".to_owned(), files })
}

fn notes(plan: &Plan) -> Vec<String> {
    let mut notes = vec![
        "partition, account and time are those of your site: `bash run.sh --partition=gpu --account=NAME --time=4:00:00`".to_owned(),
        "the folder must lie on a file system that every node sees; Python is found through `VENV=/path bash run.sh`".to_owned(),
    ];
    if !plan.job.variants.is_empty() {
        notes.push("each run of the sweep is a task of the array".to_owned());
    }
    notes
}
