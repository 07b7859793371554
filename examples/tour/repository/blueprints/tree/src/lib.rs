//! An expression as a tree.

#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    Number(f64),
    Minus(Box<Tree>),
    Operation(Box<Tree>, char, Box<Tree>),
}

impl Tree {
    pub fn operation(left: Tree, sign: char, right: Tree) -> Tree {
        Tree::Operation(Box::new(left), sign, Box::new(right))
    }

    pub fn depth(&self) -> usize {
        match self {
            Tree::Number(_) => 1,
            Tree::Minus(inner) => 1 + inner.depth(),
            Tree::Operation(left, _, right) => 1 + left.depth().max(right.depth()),
        }
    }
}

#[test]
fn depth_is_the_longest_way_down() {
    let sum = Tree::operation(Tree::Number(1.0), '+', Tree::Number(2.0));
    assert_eq!(Tree::Minus(Box::new(sum)).depth(), 3);
}
