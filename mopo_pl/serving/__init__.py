"""Service that answers observations with a policy's actions, over HTTP or in lines of JSON."""
