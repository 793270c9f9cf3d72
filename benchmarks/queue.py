"""The queues of the hub beside `bullmq` used bare and beside `saq`: see queue_contest.py."""

if __name__ == "__main__":
    from queue_contest import main

    main()
else:
    # For the scripts of this folder, `import queue` finds this file: give them the module meant.
    import sys
    import sysconfig
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    spec = PathFinder.find_spec("queue", [sysconfig.get_path("stdlib")])
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["queue"] = module_from_spec(spec)
    spec.loader.exec_module(module)
