# To be sourced: finds the Python interpreters of a machine.

# Interpreters that may exist, as commands: on the path, or installed by pyenv but not selected.
candidates() {
    echo "python$1"
    compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1.*/bin/python$1" || true
}

# Prints the first interpreter of this version that works and can make environments.
find_python() {
    local python
    for python in $(candidates "$1"); do
        "$python" -c "import ensurepip, sys, venv
assert sys.version_info[:2] == tuple(map(int, '$1'.split('.'))); print(sys.executable)" \
            2>/dev/null && return
    done
    return 1
}
