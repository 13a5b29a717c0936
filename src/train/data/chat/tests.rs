use super::known;
use super::spans::{Turn, spoken};
use super::template::{Conversation, Template};
use serde_json::{Value, json};

fn special() -> Vec<(&'static str, String)> {
    vec![("bos_token", "<s>".to_owned()), ("eos_token", "</s>".to_owned())]
}

fn talk(messages: Value) -> Conversation {
    Conversation { messages: messages.as_array().cloned().unwrap_or_default(), ..Conversation::default() }
}

fn render(source: &str) -> Result<String, String> {
    let conversation =
        talk(json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes", "n": null}]));
    Template::compile(source, &special())?.render(&conversation, false).map(|rendered| rendered.text)
}

/// What Jinja2 3.1.6 in transformers 5.24 writes for the same templates.
#[test]
fn templates_read_as_python_reads_them() {
    for (source, expected) in [
        ("{{ {'b': [1, 1.5, true, none, 'it\\'s']} }}", "{'b': [1, 1.5, True, None, \"it's\"]}"),
        ("{{ {'b': '<&>é', 'a': {}}|tojson }}", "{\"b\": \"<&>é\", \"a\": {}}"),
        ("{{ [1, {'a': []}]|tojson(indent=2) }}", "[\n  1,\n  {\n    \"a\": []\n  }\n]"),
        ("{{ {'b': 1, 'a': 2}|tojson(sort_keys=true, separators=(',', ':')) }}", "{\"a\":2,\"b\":1}"),
        ("{{ 'é'|tojson(ensure_ascii=true) }}", "\"\\u00e9\""),
        ("{{ 1e16 }} {{ 0.00001 }} {{ 3.0 }}", "1e+16 1e-05 3.0"),
        ("{% set a = -7 %}{{ a // 2 }} {{ a % 3 }} {{ 7 / 2 }}", "-4 2 3.5"),
        ("{{ 'a%s-%03d|%.2f' % ('b', 7, 1.005) }}", "ab-007|1.00"),
        ("{{ 'abc'[::-1] }}{{ [1,2,3][-2:] }}{{ 'abcdef'[1:-1:2] }}", "cba[2, 3]bd"),
        ("{{ 'x'.count('') }}{{ 'a b  c'.split() }}{{ 'a,b,c'.rsplit(',', 1) }}", "2['a', 'b', 'c']['a,b', 'c']"),
        ("{{ 'a b  c '.split(none, 1) }}", "['a', 'b  c ']"),
        ("{{ {'items': 1}.items()|list }}", "[('items', 1)]"),
        ("{{ messages[1].n is defined }} {{ nothing }}|{{ nothing is defined }}", "False |False"),
        ("{{ bos_token + 'x' * 3 }}{{ tools is none }}", "<s>xxxTrue"),
        ("{{ 'abc' is sequence }} {{ true is number }} {{ none is iterable }}", "True True False"),
        ("{{ 'one\\ntwo'|indent(2) }}|{{ 'x'.center(5, '*') }}|{{ '7'.zfill(3) }}", "one\n  two|**x**|007"),
        ("{{ 'abc'|int }} {{ '3.9'|int }} {{ '1.5'|float }}", "0 3 1.5"),
        (
            "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% break %}{% endfor %}",
            "assistant",
        ),
        ("{{ strftime_now('%Y')|length }}", "4"),
        ("{{ 'Hello {} {x}'.format('a', x=1) }}", "Hello a 1"),
        // Filters of texts take anything as a text; `%` takes a list as one value.
        ("{{ [{'a': 'x'}]|trim }} {{ {'a': none}|upper }} {{ 1e100|string|lower }}", "[{'a': 'x'}] {'A': NONE} 1e+100"),
        ("{{ '%s|%x|%.1e|%d' % ([1], -7, 2.5, true) }} {{ '%s' % [1, 2] }}", "[1]|-7|2.5e+00|1 [1, 2]"),
        ("{{ ['a\u{2028}b\x7fé😀', nothing] }}", "['a\\u2028b\\x7fé😀', Undefined]"),
        ("{{ 'a,b c-d'|title }} {{ 'it\\'s'.title() }} {{ 'ßa'|capitalize }}", "A,b C-D It'S Ssa"),
        ("{{ '<a href=\"x\">\\'/'|e }}", "&lt;a href=&#34;x&#34;&gt;&#39;/"),
        ("{{ 'a\r\nb\u{2028}c\x1cd\n'.splitlines() }}", "['a', 'b', 'c', 'd']"),
        ("{{ 'a\\r\\nb\\n'.splitlines(keepends=true) }}", "['a\\r\\n', 'b\\n']"),
        // Line ends of the source are one kind, also within quotes.
        ("{{ 'a\r\nb\n'.splitlines(keepends=true) }}", "['a\\n', 'b\\n']"),
        ("{{ 'a\r\nb\n\nc\n'|indent(2, true) }}|{{ ''|indent(2, first=true) }}", "  a\n  b\n\n  c\n|  "),
        ("{{ 'hello'.find('l', 3) }}{{ 'hello'.count('l', -2) }}{{ 'hello'.startswith(('l', 'x'), 2, 4) }}", "31True"),
        ("{{ 'hello'.rindex('l') }}{{ 'abc'.center(6, '*') }}{{ 'a\x1cb'.split() }}", "3*abc**['a', 'b']"),
        ("{{ 2.5|round }} {{ 3|round }} {{ 1.25|round(1) }} {{ 1.1|round(method='ceil') }}", "2.0 3 1.2 2.0"),
        (
            "{{ -7.0 % messages|length }} {{ ('²').isdecimal() }}{{ '²'.isdigit() }}{{ '½'.isnumeric() }}",
            "1.0 FalseTrueTrue",
        ),
        (
            "{{ nothing|length }}{{ nothing|first }}{{ nothing|items|list }} {{ 'a-b' is lower }} {{ messages[0]|reverse|list }}",
            "0[] True ['content', 'role']",
        ),
    ] {
        assert_eq!(render(source).as_deref(), Ok(expected), "{source}");
    }
}

/// All that transformers writes for the templates of the fixture; what Python refuses is refused here.
#[test]
fn templates_write_what_transformers_writes() {
    let fixture: Value = serde_json::from_str(include_str!("../../../../tests/fixtures/templates.json")).unwrap();
    let conversation = Conversation { tools: fixture["tools"].clone(), ..talk(fixture["messages"].clone()) };
    let special = [("bos_token", "<s>"), ("eos_token", "</s>"), ("pad_token", "<pad>")];
    let special = special.map(|(name, text)| (name, text.to_owned()));
    let mut wrong = Vec::new();
    for one in fixture["templates"].as_array().unwrap() {
        let source = one["source"].as_str().unwrap();
        let text = Template::compile(source, &special).and_then(|template| template.render(&conversation, false));
        match (text, one["text"].as_str()) {
            (Ok(text), Some(expected)) if text.text == expected => {}
            (Err(_), None) => {}
            (text, expected) => wrong.push(format!("{source:?}\n  {text:?}\n  {expected:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_template_cannot_run_away() {
    let nested = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    let doubled = "{% set ns = namespace(a='xx') %}{% for i in range(40) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}";
    let macros = "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}".to_owned()
        + "{{ "
        + &"f(".repeat(40)
        + "'xxxx'"
        + &")".repeat(40)
        + " }}";
    for (source, expected) in [
        (nested.to_owned(), "steps"),
        (doubled.to_owned(), "more text"),
        (doubled.replace("ns.a ~ ns.a", "ns.a + ns.a"), "more text"),
        (doubled.replace("ns.a ~ ns.a", "ns.a.replace('x', ns.a)"), "more text"),
        (doubled.replace("ns.a ~ ns.a", "ns.a|replace('x', ns.a)"), "more text"),
        (doubled.replace("ns.a ~ ns.a", "(ns.a, ns.a)|join"), "more text"),
        (doubled.replace("ns.a ~ ns.a", "'%s%s' % (ns.a, ns.a)"), "more text"),
        (doubled.replace("='xx'", "=[1]").replace("ns.a ~ ns.a", "ns.a + ns.a"), "more text"),
        ("{% for i in range(100000) %}{% set x = range(100000)|list %}{% endfor %}".to_owned(), "more text"),
        (macros, ""),
        ("{{ '%9223372036854775808s' | format(1) }}".to_owned(), "10000 characters"),
        ("{{ 'x' * 9999999999 }}".to_owned(), "more text"),
        ("{{ 'x'.center(9999999999) }}".to_owned(), "more text"),
        ("{{ range(9999999999999) }}".to_owned(), "range of"),
        (format!("{{{{ {}1 }}}}", "- ".repeat(11_000)), "4000 words"),
        (format!("{{{{ {}1 }}}}", "not ".repeat(11_000)), "4000 words"),
        (format!("{{{{ 1{} }}}}", "~1".repeat(11_000)), "4000 words"),
        (format!("{{{{ a{} }}}}", ".b".repeat(11_000)), "4000 words"),
        ("x".repeat(70_000), "at most 65536"),
        (
            "{% set ns = namespace(a=[]) %}{% for i in range(100000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a }}"
                .to_owned(),
            "deep",
        ),
        ("{{ raise_exception('no such turn') }}".to_owned(), "no such turn (line 1)"),
        ("{% if %}".to_owned(), "line 1"),
        ("{{ 'a'|nonsense }}".to_owned(), "nonsense"),
        ("{{ messages.append(1) }}".to_owned(), "change a list"),
    ] {
        let error = render(&source).expect_err(&source[..source.len().min(80)]);
        assert!(error.contains(expected), "{error}: {}", &source[..source.len().min(80)]);
    }
    // Deep, but within what is allowed.
    assert_eq!(render(&format!("{{{{ 1{} }}}}", "+1".repeat(1500))).as_deref(), Ok("1501"));
}

fn said(source: &str, messages: Value) -> Vec<String> {
    let template = Template::compile(source, &special()).unwrap();
    let spoken = spoken(&template, &talk(messages)).unwrap();
    spoken.turns.iter().map(|Turn { bytes, .. }| spoken.text[bytes.clone()].to_owned()).collect()
}

const TURNS: &str = "{% for m in messages %}[{{ m.role }}]{{ m.content }}<e>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";

#[test]
fn every_turn_is_found() {
    let talk = json!([
        {"role": "user", "content": "yes"}, {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "again"}, {"role": "assistant", "content": "no"},
    ]);
    assert_eq!(said(TURNS, talk.clone()), ["yes<e>", "no<e>"]);
    // Marked by the template itself.
    let marked = TURNS.replace(
        "{{ m.content }}<e>",
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}<e>{% endif %}",
    );
    assert_eq!(said(&marked, talk.clone()), ["yes", "no"]);
    // An earlier turn is written otherwise than the last.
    let upper =
        TURNS.replace("{{ m.content }}", "{% if loop.last %}{{ m.content }}{% else %}{{ m.content|upper }}{% endif %}");
    assert_eq!(said(&upper, talk.clone()), ["YES<e>", "no<e>"]);
    // The head depends on the whole.
    assert_eq!(said(&format!("{{{{ messages|length }}}}{TURNS}"), talk.clone()), ["yes<e>", "no<e>"]);
    // The first message is looked at; the assistant begins.
    let first = format!("{{{{ messages[0].role[0] }}}}{TURNS}");
    assert_eq!(
        said(&first, json!([{"role": "assistant", "content": "hm"}, {"role": "user", "content": "what"}])),
        ["hm<e>"]
    );
    // The last turn is followed by the end of the text, which belongs to it alone.
    let end = TURNS.replacen("{% endfor %}", "{% endfor %}{% if messages[-1].role == 'assistant' %}</s>{% endif %}", 1);
    let turns = said(&end, talk);
    assert_eq!(turns[1], "no<e></s>");
    assert_eq!(turns[0], "yes<e>");
}

/// The parts of a turn that others speak between, turns of which nothing is written, and heads that only begin alike.
#[test]
fn what_others_say_is_not_learnt() {
    // Words stand behind the answers to the calls before them; arguments are sorted.
    let source = "{% for m in messages %}{% if m.role == 'assistant' %}<a>{% for c in m.tool_calls or [] %}<call {{ c.function.name }}\
        {% for k, v in c.function.arguments|dictsort %} {{ k }}={{ v }}{% endfor %}/>{% endfor %}\
        {% if not loop.last and messages[loop.index].role == 'tool' %}<answer {{ m.tool_calls[0].function.name }}>{{ messages[loop.index].content }}</answer>{% endif %}\
        {{ m.content }}{% if not m.tool_calls %}<e>{% endif %}{% elif m.role == 'user' %}<u>{{ m.content }}<e>{% endif %}{% endfor %}\
        {% if add_generation_prompt %}<a>{% endif %}";
    let call = |content: &str| {
        json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": content, "tool_calls": [{"function": {"name": "look", "arguments": {"n": 1, "x": {}}}}]},
            {"role": "tool", "content": "look at 1"},
            {"role": "assistant", "content": "so"},
        ])
    };
    assert_eq!(said(source, call("")), ["<call look n=1 x={}/>", "so<e>"]);
    assert_eq!(said(source, call("first")), ["<call look n=1 x={}/>", "first", "so<e>"]);
    // A template that writes nothing of calls, and one that writes nothing of a turn.
    assert_eq!(said(TURNS, call("")), ["<e>", "so<e>"]);
    let thoughtful = TURNS.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1]|trim }}");
    let talk = json!([
        {"role": "user", "content": "hi"}, {"role": "assistant", "content": "<think>hm</think>"},
        {"role": "user", "content": "hi"}, {"role": "assistant", "content": "<think>hm</think>yes"},
    ]);
    assert_eq!(said(&thoughtful, talk.clone()), ["<e>", "yes<e>"]);
    let hidden = TURNS
        .replace("[{{ m.role }}]{{ m.content }}<e>", "{% if loop.last %}[{{ m.role }}]{{ m.content }}<e>{% endif %}");
    assert_eq!(said(&hidden, talk), ["<think>hm</think>yes<e>"]);
    // The text begins as an answer does: both with `<`.
    let begun = "{% for m in messages %}{% if loop.first %}<s>{% endif %}<{{ m.role }}>{{ m.content }}<e>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    assert_eq!(
        said(begun, json!([{"role": "assistant", "content": "hm"}, {"role": "user", "content": "what"}])),
        ["hm<e>"]
    );
}

#[test]
fn known_templates_say_what_is_learnt() {
    let talk = json!([{"role": "system", "content": "be"}, {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]);
    let said = |name: &str| said(known::template(name).unwrap(), talk.clone());
    assert_eq!(said("chatml"), ["yes<|im_end|>"]);
    assert_eq!(said("llama3"), ["yes<|eot_id|>"]);
    assert_eq!(said("alpaca"), ["yes</s>"]);
    assert_eq!(said("plain"), ["yes</s>"]);
}
