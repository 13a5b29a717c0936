use super::*;

#[test]
fn run_toml_holds_everything() {
    let settings = Settings { steps: Some(30), warmup: 5, alpha: Some(16.0), ..Settings::default() };
    let text = toml::to_string(&settings).unwrap();
    assert_eq!(toml::from_str::<Settings>(&text).unwrap(), settings);
    assert!(toml::from_str::<Settings>("rang = 3").unwrap_err().to_string().contains("rang"));
}

/// A run of the first version is read as it was meant.
#[test]
fn an_old_run_is_read() {
    let old = include_str!("../../../tests/fixtures/run.toml");
    let settings: Settings = toml::from_str(old).unwrap();
    assert_eq!(toml::to_string(&settings).unwrap(), old);
}

#[test]
fn nonsense_is_named() {
    let sentence = |settings: Settings| settings.check().unwrap_err().to_string();
    assert_eq!(sentence(Settings { batch: 0, ..Settings::default() }), "batch 0; expected 1 or more");
    assert_eq!(
        sentence(Settings { batch: usize::MAX, ..Settings::default() }).split(';').nth(1),
        Some(" expected 65536 or less")
    );
    assert!(sentence(Settings { lr: f64::NAN, ..Settings::default() }).starts_with("lr NaN"));
    assert_eq!(sentence(Settings { lr: 0.0, ..Settings::default() }), "lr 0; expected a number above 0");
    assert_eq!(
        sentence(Settings { dropout: 1.0, ..Settings::default() }),
        "dropout 1; expected a number from 0 and below 1"
    );
    assert!(Settings::default().check().is_ok());
    let blind = sentence(Settings { patience: 2, ..Settings::default() });
    assert_eq!(blind, "patience looks at evaluations on the way; expected eval-every above 0");
}

/// Every setting: a name, help that is a line, a way to read what it writes; the same under its name in run.toml.
#[test]
fn the_table_is_whole() {
    let full = Settings {
        eval_data: Some("held-out.jsonl".into()),
        columns: "prompt=question,completion=answer".parse().unwrap(),
        chat_template: Some("chatml".to_owned()),
        loss_on: LossOn::Last,
        hold_out: "12.5%".parse().ok(),
        alpha: Some(8.0),
        rslora: true,
        rank_pattern: BTreeMap::from([("q_proj".to_owned(), 4), (r"layers\.(0|1)\..*=x".to_owned(), 2)]),
        loftq_iterations: 3,
        init_adapter: Some("adapter".into()),
        packing: true,
        dora: true,
        steps: Some(7),
        prompts: vec!["Once".to_owned(), "Twice".to_owned()],
        dtype: Some(ComputeDtype::Bf16),
        threads: Some(2),
        report_to: ReportTo::Tensorboard,
        patience: 3,
        keep_best: true,
        split_seed: Some(4),
        forget_data: Some("plain.txt".into()),
        ..Settings::default()
    };
    let table = toml::Table::try_from(&full).unwrap();
    let (mut empty, mut names) = (Settings::default(), Vec::new());
    for setting in SETTINGS {
        assert!(!setting.help().is_empty() && !setting.help().ends_with('.'), "{}", setting.name);
        assert!(setting.help().len() < 130 && !setting.about.label.is_empty(), "{}", setting.name);
        assert!(setting.about.global || table.contains_key(setting.name), "{} is not in run.toml", setting.name);
        (setting.set)(&mut empty, &(setting.get)(&full)).unwrap();
        names.push(setting.flag());
        if let Control::Choice(choices) = setting.about.control {
            assert!(choices().iter().all(|choice| !choice.about.is_empty()), "{}", setting.name);
        }
    }
    assert_eq!(empty, full);
    assert_eq!(table.len() + 1, SETTINGS.len());
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
}

#[test]
fn the_rate_falls_to_zero() {
    let settings = Settings { lr: 1.0, warmup: 4, ..Settings::default() };
    assert_eq!(settings.lr_at(0, 12), 0.25);
    assert_eq!(settings.lr_at(4, 12), 1.0);
    assert!((settings.lr_at(8, 12) - 0.5).abs() < 1e-12);
    assert_eq!(Settings { schedule: Schedule::Linear, ..settings }.lr_at(8, 12), 0.5);
}
