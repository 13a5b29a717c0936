//! SkyPilot: one YAML; of a sweep one managed job for each run.

use super::axolotl::yaml;
use super::launcher::{Launcher, Made};
use super::plan::Plan;
use super::{File, fill};
use crate::error::Result;
use serde_json::json;

pub(super) static LAUNCHER: Launcher =
    Launcher { name: "skypilot", title: "SkyPilot", many: true, nodes: true, make, notes };

fn make(plan: &Plan) -> Result<Made> {
    let run = fill(include_str!("templates/sky-run.sh.j2"), &json!({}))?;
    let task = json!({
        "name": "rankscope",
        "num_nodes": plan.job.nodes,
        "resources": {"accelerators": format!("H100:{}", plan.job.gpus)},
        "workdir": ".",
        "envs": {"LINE": "1", "MODEL": plan.model},
        "setup": "pip install -r requirements.txt",
        "run": run,
    });
    let start = if plan.job.variants.is_empty() {
        "exec sky launch -c rankscope \"$@\" task.yaml\n".to_owned()
    } else {
        "for line in $(seq 1 \"$(wc -l < sweep.txt)\"); do\n    sky jobs launch -y -d -n \"rankscope-$line\" --env LINE=\"$line\" \"$@\" task.yaml\ndone\n".to_owned()
    };
    Ok(Made { run: start, files: vec![File::new("task.yaml", yaml(&task, 0))] })
}

fn notes(plan: &Plan) -> Vec<String> {
    let mut notes = vec!["another GPU: `bash run.sh --gpus A100-80GB:8`; the results: `sky rsync down rankscope`, or a bucket under `file_mounts`".to_owned()];
    if plan.model_is_local {
        let place = plan.place_of_model();
        notes.push(format!(
            "the model lies on this machine: put it under `file_mounts`, and its path there into {place}"
        ));
    }
    notes
}
