"""Makes the virtual environment, once per lock file. Runs on any Python 3, so that an old one gets a sentence, not a traceback.

usage: bootstrap.py demo|dev      the requirements file to install
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time

NEEDED = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VENV = os.path.join(ROOT, ".venv")


def newer_python() -> "str":
    """A Python on the PATH that is new enough, newest first; empty when there is none."""
    for minor in range(20, NEEDED[1] - 1, -1):
        found = shutil.which("python3.%d" % minor)
        if found and not subprocess.call([found, "-c", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            return found  # and not only the name of one, as version managers leave it on the PATH
    return ""


def refuse_old_python(target: str) -> None:
    """`target` is of make."""
    here, found = "%d.%d" % sys.version_info[:2], newer_python()
    print(
        "HILO-002  This is Python %s; Hilo needs %d.%d or newer.%s"
        % ((here,) + NEEDED + (" Found here: %s" % found if found else "",)),
        file=sys.stderr,
    )
    if found:
        print("          make %s PYTHON=%s" % (target, found), file=sys.stderr)
    else:
        print('          install it with "uv python install 3.12" or from your system\'s packages', file=sys.stderr)
    sys.exit(2)


def refuse_folder(folder: str) -> None:
    """A folder that cannot be written: who owns it, and the command that mends it."""
    try:
        import pwd

        owner = pwd.getpwuid(os.stat(folder).st_uid).pw_name
    except (ImportError, KeyError, OSError):
        owner = "somebody else"
    name = os.path.relpath(folder, ROOT) if folder != ROOT else ROOT
    print("HILO-005  Cannot write to %s (it belongs to %s)." % (name, owner), file=sys.stderr)
    print('          sudo chown -R "$USER" %s' % name, file=sys.stderr)
    sys.exit(2)


def marker(requirements: str) -> str:
    with open(requirements, "rb") as file:
        return hashlib.sha256(file.read() + sys.version.encode()).hexdigest()


def installed() -> "list[str]":
    try:
        with open(os.path.join(VENV, "hilo-lock")) as file:
            return file.read().split()
    except OSError:
        return []


def main(target: str) -> None:
    if sys.version_info < NEEDED:
        refuse_old_python("demo" if target == "demo" else "test")
    requirements = os.path.join(ROOT, "requirements", target + ".txt")
    wanted = marker(requirements)
    if wanted in installed():
        return
    folder = VENV if os.path.isdir(VENV) else ROOT
    if not os.access(folder, os.W_OK):
        refuse_folder(folder)
    began = time.time()
    if target == "demo":
        print("Hilo demo. Nothing leaves this machine.\n")
    print("  Installing requirements/%s.txt into .venv, only the first time ..." % target, flush=True)
    python = os.path.join(VENV, "bin", "python")
    if not os.path.exists(python):
        subprocess.check_call([sys.executable, "-m", "venv", VENV])
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input"]
    subprocess.check_call(pip + ["--require-hashes", "-r", requirements])
    link_package()
    with open(os.path.join(VENV, "hilo-lock"), "w") as file:
        # What is installed for development includes what the demo needs.
        both = [wanted] + ([marker(os.path.join(ROOT, "requirements", "demo.txt"))] if target == "dev" else [])
        file.write("\n".join(both))
    if target == "demo":  # the demo says the seconds on its list
        with open(os.path.join(VENV, "hilo-first"), "w") as file:
            file.write("%.1f" % (time.time() - began))


def link_package() -> None:
    """Make `services` importable and put the `hilo` command into the environment, without building a wheel."""
    probe = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    place = subprocess.check_output([os.path.join(VENV, "bin", "python"), "-c", probe]).decode().strip()
    with open(os.path.join(place, "hilo.pth"), "w") as file:
        file.write(ROOT + "\n")
    command = os.path.join(VENV, "bin", "hilo")
    with open(command, "w") as file:
        file.write("#!%s\nfrom services.cli import main\n\nmain()\n" % os.path.join(VENV, "bin", "python"))
    os.chmod(command, 0o755)


if __name__ == "__main__":
    main(sys.argv[1])
