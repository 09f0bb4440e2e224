"""Where jobs run: in this process beside others (shared), in processes of this machine (here), on clusters."""
