//! A tree as text, with every parenthesis.

use tree::Tree;

pub fn text(tree: &Tree) -> String {
    match tree {
        Tree::Number(number) => number.to_string(),
        Tree::Minus(inner) => format!("-{}", text(inner)),
        Tree::Operation(left, sign, right) => format!("({} {sign} {})", text(left), text(right)),
    }
}

#[test]
fn parentheses_are_shown() {
    let tree = Tree::operation(Tree::Number(1.0), '+', Tree::Number(2.0));
    assert_eq!(text(&tree), "(1 + 2)");
}
