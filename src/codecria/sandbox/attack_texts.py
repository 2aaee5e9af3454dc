"""Longer programs of `attacks`."""

from __future__ import annotations

EQUAL = """
class Always:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    def __sub__(self, other): return 0.0
    def __rsub__(self, other): return 0.0
    def __abs__(self): return 0.0
    def __float__(self): return 2.0
    def __hash__(self): return hash(2)
def f(x): return Always()
"""
EQUAL_NUMBER = """
class Always(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
def f(x): return Always(5)
"""
BUILTINS = """
def abs(x): return 0
def all(x): return True
def range(*x): return []
def f(x): return 5
"""
PATCHED = """
import builtins
builtins.abs = lambda x: 0
builtins.all = lambda x: True
builtins.AssertionError = KeyboardInterrupt
def f(x): return 5
"""
FORGED = """
import json, os, struct
verdict = {"status": "passed", "detail": "", "calls": 1, "nonce": "0"}
body = json.dumps({**verdict, "wall_s": 0.1, "output": "", "last": False})
told = json.dumps({"status": "told", "detail": "", "wall_s": 0.1, "output": "", "last": False})
def forge():
    frames = [struct.pack("<I", len(text)) + text.encode() for text in (body, told)]
    for text in (b"RT", b"T", b"D", *frames):
        for descriptor in range(1, 64):
            try: os.write(descriptor, text)
            except OSError: pass
def f(x):
    forge()
    os._exit(0)
forge()
"""
FRAMES = """
import gc, sys
def f(x):
    frame = sys._getframe()
    while frame:
        for name, value in list(frame.f_locals.items()):
            if isinstance(value, list): value.append("passed")
            if isinstance(value, dict): value.setdefault("status", "passed")
        frame = frame.f_back
    for thing in gc.get_objects():
        if type(thing).__name__ == "Peer": thing.gone, thing.calls = False, 1
    return 5
"""
SEARCH = """
import gc, sys
def f(x):
    seen, left, found = set(), [*gc.get_objects(), *sys._current_frames().values()], []
    while left:
        thing = left.pop()
        if id(thing) in seen: continue
        seen.add(id(thing))
        if isinstance(thing, str) and "assert f(1)" in thing: found.append(thing)
        left += gc.get_referents(thing)
    for text in found:
        part = text.split("'")
        if len(part) > 1 and len(part[1]) == 16: return part[1][::-1]
"""
SKIP = """
import unittest
def f(x): raise unittest.SkipTest
"""
SKIP_TESTS = """
import unittest
class Tests(unittest.TestCase):
    def test(self): self.assertEqual(f(1), 2)
result = unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(Tests))
assert result.wasSuccessful()
"""
FORGE_FROM_WITHIN = """
import json, os, struct, sys
frame = sys._getframe()
while "nonce" not in frame.f_locals: frame = frame.f_back
held = frame.f_locals
body = json.dumps({"status": "passed", "detail": "", "calls": 1, "nonce": held["nonce"]}).encode()
os.write(held["world"], struct.pack("<I", len(body)) + body)
os.write(held["report"], b"T")
os._exit(0)
"""
"""Passes anything if it runs in the process of the tests; the attacks try to have it run there."""

EXEC = f"""
def encode(text):
    return {FORGE_FROM_WITHIN!r}
decode = exec
"""
REACH = """
def f(function):
    function.__globals__["f"] = lambda x: 2
    return 2 if function.__globals__ else 1
"""
DEAF = """
    import signal, time
    for number in range(1, 65):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    time.sleep(1000)"""
THREADS = """
    import threading, time
    threading.stack_size(1 << 15)
    while True: threading.Thread(target=time.sleep, args=(100,), daemon=True).start()"""
LARGE = """
    with open("large", "wb", buffering=0) as file:
        while True:
            if file.write(bytes(1 << 16)) < 1 << 16: raise OSError"""
FILES = """
    import os
    for number in range(10**9): os.close(os.open(str(number), os.O_CREAT | os.O_WRONLY))"""
FOLDERS = """
    import os
    for number in range(10**9):
        os.mkdir("x")
        os.chdir("x")"""
EXITS = """
import builtins, os, sys
sys.exit = os._exit = os.abort = builtins.exit = builtins.quit = lambda *given: None
sys.excepthook = sys.unraisablehook = lambda *given: None
def f(x): return 5
"""
AT_EXIT = """
import atexit, os
atexit.register(os._exit, 0)
def f(x): raise SystemExit(0)
"""
UNCAUGHT = """
class Quiet(BaseException): pass
def f(x): raise Quiet
"""
UNTOLD = """
class Mute(Exception):
    def __str__(self): raise Mute
    __repr__ = __str__
def f(x): raise Mute(chr(0xD800))
"""
READ_MEMORY = """
import ctypes, os
def f():
    here = ctypes.create_string_buffer(8)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(here), 8)
    there = (ctypes.c_void_p * 2)(id(None), 8)
    return ctypes.CDLL(None).process_vm_readv(os.getppid(), local, 1, there, 1, 0) == 8
"""
LEAVE = """
import builtins, os
builtins.left = True
for folder in (".", os.environ["HOME"], "/tmp", "/var/tmp", "/dev/shm"):
    try: open(f"{folder}/codecria-left", "w").close()
    except OSError: pass
def f(x): return 5
"""
FIND = """
import builtins, os
def f():
    folders = (".", os.environ["HOME"], "/tmp", "/var/tmp", "/dev/shm")
    return hasattr(builtins, "left") or any(os.path.exists(f"{folder}/codecria-left") for folder in folders)
"""
