//! Kubernetes: a TrainJob of Kubeflow Trainer for each run, on a claim that holds the folder.

use super::File;
use super::axolotl::yaml;
use super::launcher::{Launcher, Made, START};
use super::plan::Plan;
use crate::error::Result;
use serde_json::{Value, json};

pub(super) static LAUNCHER: Launcher =
    Launcher { name: "kubernetes", title: "Kubernetes (Kubeflow Trainer)", many: true, nodes: true, make, notes };

/// Where the claim is mounted.
const PLACE: &str = "/job";

fn make(plan: &Plan) -> Result<Made> {
    let lines = plan.job.variants.len().max(1);
    let manifests: Vec<String> = (1..=lines).map(|line| yaml(&train_job(plan, line), 0)).collect();
    let claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "rankscope"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "200Gi"}}},
    });
    let files = vec![File::new("trainjob.yaml", manifests.join("---\n")), File::new("claim.yaml", yaml(&claim, 0))];
    Ok(Made { run: "exec kubectl apply -f trainjob.yaml \"$@\"\n".to_owned(), files })
}

/// trainer.kubeflow.org/v1alpha1, as Kubeflow Trainer 2.2 and later define it (before, `podTemplateOverrides` stood for
/// `runtimePatches`); `torch-distributed` is its own runtime, which sets torchrun's environment.
fn train_job(plan: &Plan, line: usize) -> Value {
    let name = if plan.job.variants.is_empty() { "rankscope".to_owned() } else { format!("rankscope-{line}") };
    let gpus = json!({"nvidia.com/gpu": plan.job.gpus.to_string()});
    let environment = [("LINE", line.to_string()), ("MODEL", plan.model.clone()), ("HOME", "/tmp".to_owned())];
    json!({
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": name},
        "spec": {
            "runtimeRef": {"name": "torch-distributed"},
            "trainer": {
                "numNodes": plan.job.nodes,
                "numProcPerNode": plan.job.gpus,
                "command": ["bash", "-c"],
                "args": [format!("cd {PLACE} && pip install -r requirements.txt && exec bash {START}")],
                "env": environment.iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>(),
                "resourcesPerNode": {"limits": gpus, "requests": gpus},
            },
            "runtimePatches": [{
                "manager": "trainer.kubeflow.org/rankscope",
                "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [{
                    "name": "node",
                    "template": {"spec": {"template": {"spec": {
                        "volumes": [{"name": "job", "persistentVolumeClaim": {"claimName": "rankscope"}}],
                        "containers": [{"name": "node", "volumeMounts": [{"name": "job", "mountPath": PLACE}]}],
                    }}}},
                }]}}},
            }],
        },
    })
}

fn notes(plan: &Plan) -> Vec<String> {
    let mut notes = vec![
        format!("`kubectl apply -f claim.yaml` once, and copy this folder into the claim: it is mounted at {PLACE}"),
        "Kubeflow Trainer 2.2 or later, with its runtime torch-distributed, must be installed in the cluster"
            .to_owned(),
    ];
    if plan.model_is_local {
        let place = plan.place_of_model();
        notes.push(format!(
            "the model lies on this machine: copy it into the claim too, and put its path there into {place}"
        ));
    }
    notes
}
