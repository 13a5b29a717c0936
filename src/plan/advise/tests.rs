use super::*;
use crate::plan::{Layout, Load, Method, Selection, Targets};
use std::sync::Arc;

/// Llama 3.1 8B with so many answer tokens.
fn facts(predicted: u64) -> Facts {
    let layout = Arc::new(Layout::preset("llama-3.1-8b").unwrap());
    let selection = Selection::new(&layout, &"all-linear".parse::<Targets>().unwrap()).unwrap();
    Facts {
        layout,
        selection,
        targets: "all-linear".into(),
        method: Method::Qlora,
        load: Load::default(),
        data: Some(DataFacts { rows: 1000, tokens: 4 * predicted, predicted, answers: None }),
        course: None,
        room: Some(Room { name: "80GB".into(), bytes: 80 << 30 }),
        gradients: Vec::new(),
        sibling: None,
        grid: Grid::default(),
        forgetting: Vec::new(),
        seconds_of_run: Some([60.0, 120.0]),
    }
}

fn tried(r: usize, lr: f64, seed: u64, loss: f64) -> Tried {
    Tried { r, lr, alpha: 2.0 * r as f64, rslora: false, seed, steps: 100, trainable: 1, loss, sure: None }
}

fn why<'a>(advice: &'a Advice, criterion: &str) -> &'a Why {
    advice.why.iter().find(|why| why.criterion == criterion).unwrap()
}

#[test]
fn more_answers_ask_for_a_higher_rank_and_memory_bounds_it() {
    // 2,621,440 numbers for each rank: 3M answers need two, which is less than what is taken anyway.
    let few = advise(&facts(3_000_000)).unwrap();
    assert_eq!((few.r, few.range, few.alpha, few.tokens), (16, [8, 64], 32.0, Some(3_000_000)));
    assert_eq!((few.parameters_per_rank, few.trainable), (2_621_440, 16 * 2_621_440));
    assert!(why(&few, "capacity").value.ends_with("= 2"));
    let many = advise(&facts(100_000_000)).unwrap();
    assert_eq!((many.r, why(&many, "capacity").bound), (64, Some(Bound::AtLeast(64))));
    assert!(many.lr < few.lr, "with α = 2r a higher rank wants a lower rate");
    let small = Facts { room: Some(Room { name: "24GB".into(), bytes: 24 << 30 }), ..facts(100_000_000) };
    let small = advise(&small).unwrap();
    let Some(Bound::AtMost(most)) = why(&small, "memory").bound else { panic!("memory bounds nothing") };
    assert!(small.r == most && small.range[1] == most, "{} of {most}", small.r);
}

#[test]
fn reasons_stand_in_order_of_weight_and_each_has_a_source() {
    let mut facts = facts(1000);
    facts.sibling = Some(Sibling {
        name: "tuned".into(),
        energy_90: [10, 300, 900],
        above_rounding: Some([5, 40, 80]),
        curve: crate::plan::energy::Curve { uniform: vec![(16, 1000, 0.4)], best: vec![(1000, 0.5)] },
        adapter: None,
    });
    facts.gradients = vec![Pull { name: "model.layers.0.q_proj".into(), share: 1.0, directions: Some(3), stable: 1.5 }];
    facts.forgetting = vec![Forgetting { r: 16, lr: 1e-3, loss: 1.0, before: 2.0, after: 2.5 }];
    let advice = advise(&facts).unwrap();
    assert!(advice.why.windows(2).all(|pair| pair[0].weight >= pair[1].weight));
    assert_eq!(advice.why.len(), REASONS.len() - 1, "no sweep was run");
    assert!(advice.why.iter().all(|why| !why.source.is_empty() && !why.says.is_empty() && why.figure.is_some()));
    // The energy of a sibling asks for no rank.
    assert_eq!((advice.r, why(&advice, "sibling").bound), (16, None));
    assert!(why(&advice, "sibling").says.contains("10 to 100 times"));
    assert!(why(&advice, "forgetting").says.contains("25"), "{}", why(&advice, "forgetting").says);
    let mut report = crate::figure::html::Report::new("which rank");
    section(&mut report, &advice);
    let html = report.html().unwrap();
    assert!(html.contains("Take r = 16 on all-linear") && html.matches("<svg").count() == advice.why.len());
}

#[test]
fn a_sweep_has_the_last_word() {
    let mut facts = facts(100_000_000);
    facts.grid.tried = vec![
        tried(4, 1e-3, 0, 1.50),
        tried(4, 3e-3, 0, 1.30),
        tried(8, 1e-3, 0, 1.01),
        tried(8, 1e-3, 1, 1.03),
        tried(16, 1e-3, 0, 1.00),
        tried(64, 3e-4, 0, 1.20),
    ];
    let advice = advise(&facts).unwrap();
    assert_eq!((advice.r, advice.range, advice.lr), (8, [8, 16], 1e-3));
    assert_eq!(advice.why[0].criterion, "measured");
    assert!(advice.why[0].says.contains("r = 8 comes within 2 %"), "{}", advice.why[0].says);
    // Where the largest rank is the best, a larger one is to be tried.
    facts.grid.tried.push(tried(128, 3e-4, 0, 0.5));
    let advice = advise(&facts).unwrap();
    assert!(advice.why[0].says.contains("128 is the largest that was tried: try 256"), "{}", advice.why[0].says);
}

#[test]
fn nothing_but_a_model_still_gives_an_answer() {
    let facts = Facts { data: None, room: None, seconds_of_run: None, ..facts(0) };
    let advice = advise(&facts).unwrap();
    assert_eq!((advice.r, advice.tokens), (16, None));
    assert!(advice.uncertain.iter().any(|one| one.what.contains("no data")));
    assert!(advice.uncertain.iter().all(|one| one.seconds.is_none() && one.cost().starts_with("It takes")));
}
